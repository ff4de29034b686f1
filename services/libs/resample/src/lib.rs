//! 8-bit pictures at another size, with Pillow's bits: what the references begin from is scaled by its LANCZOS, what their safety
//! checker sees by its BICUBIC.
//!
//! Two passes of convolution, across and then down, each rounded to 8 bits (Pillow's `src/libImaging/Resample.c` up to version 12; 13
//! goes down first where a picture gets lower and not narrower, which a few rough pixels show). Only what is wanted of the result
//! is computed.

mod taps;

use std::borrow::Cow;
use std::ops::Range;

pub use taps::Kernel;
use taps::Taps;

/// One direction of a change of size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Pixels before, not 0.
    pub input: usize,
    /// Pixels after, not 0.
    pub output: usize,
    /// Those of them that are wanted.
    pub wanted: Range<usize>,
}

impl Axis {
    /// All that `output` pixels are.
    #[must_use]
    pub fn whole(input: usize, output: usize) -> Self {
        Self { input, output, wanted: 0..output }
    }

    /// The wanted pixels' taps, or none if they are the input's own.
    fn taps(&self, kernel: Kernel) -> Option<Vec<Taps>> {
        (self.input != self.output)
            .then(|| self.wanted.clone().map(|at| kernel.taps(self.input, self.output, at)).collect())
    }
}

/// `[rows.input, columns.input, COLOURS]` → what is wanted of both directions, `[rows.wanted, columns.wanted, COLOURS]`.
///
/// # Panics
/// If `pixels` is not as long as the axes say, or if more is wanted than there is.
#[must_use]
pub fn resample<const COLOURS: usize>(kernel: Kernel, pixels: &[u8], rows: &Axis, columns: &Axis) -> Vec<u8> {
    assert_eq!(pixels.len(), rows.input * columns.input * COLOURS, "pixels of {rows:?} and {columns:?}");
    let down = rows.taps(kernel);
    // Only rows that a wanted one is made of go through the first pass.
    let needed = down.as_ref().map_or(rows.wanted.clone(), |taps| span(taps));
    let pitch = columns.input * COLOURS;
    let narrow = across::<COLOURS>(&pixels[needed.start * pitch..needed.end * pitch], columns, kernel);
    match down {
        None => narrow.into_owned(),
        Some(taps) => along(&narrow, columns.wanted.len() * COLOURS, needed.start, &taps),
    }
}

/// From the first to the last input pixel that any of them reads.
fn span(taps: &[Taps]) -> Range<usize> {
    let first = taps.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = taps.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);
    first..end
}

/// Every row, `columns.wanted` pixels wide.
fn across<'a, const COLOURS: usize>(rows: &'a [u8], columns: &Axis, kernel: Kernel) -> Cow<'a, [u8]> {
    let pitch = columns.input * COLOURS;
    let Some(taps) = columns.taps(kernel) else {
        if columns.wanted == (0..columns.input) {
            return Cow::Borrowed(rows);
        }
        let wanted = columns.wanted.start * COLOURS..columns.wanted.end * COLOURS;
        return rows.chunks_exact(pitch).flat_map(|row| &row[wanted.clone()]).copied().collect();
    };
    let mut out = Vec::with_capacity(rows.len() / pitch * taps.len() * COLOURS);
    for row in rows.chunks_exact(pitch) {
        let row = row.as_chunks::<COLOURS>().0;
        for Taps { first, weights } in &taps {
            let mut sums = [taps::HALF; COLOURS];
            for (weight, pixel) in weights.iter().zip(&row[*first..]) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(*value);
                }
            }
            out.extend(sums.map(taps::rounded));
        }
    }
    Cow::Owned(out)
}

/// A row of `pitch` bytes for each of the taps; `rows` begins with row `first`. Whole rows are added up, in the order in which they lie in
/// memory: a large picture is read once for each row that it becomes, not once for each byte.
fn along(rows: &[u8], pitch: usize, first: usize, taps: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(taps.len() * pitch);
    let mut sums = vec![0; pitch];
    for taps in taps {
        sums.fill(taps::HALF);
        let rows = rows[(taps.first - first) * pitch..].chunks_exact(pitch);
        for (weight, row) in taps.weights.iter().zip(rows) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(*value);
            }
        }
        out.extend(sums.iter().copied().map(taps::rounded));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNELS: [Kernel; 2] = [Kernel::Lanczos, Kernel::Bicubic];

    /// `(37 x + 101 y + 59 c + 7 x y) mod 256`: as rough as pictures get.
    fn rough([width, height]: [usize; 2], colours: usize) -> Vec<u8> {
        let row =
            |y| (0..width).flat_map(move |x| (0..colours).map(move |c| (37 * x + 101 * y + 59 * c + 7 * x * y) as u8));
        (0..height).flat_map(row).collect()
    }

    /// The wanted pixels one after the other, straight from the definition.
    fn slowly(kernel: Kernel, pixels: &[u8], rows: &Axis, columns: &Axis) -> Vec<u8> {
        let narrow = |y: usize, x: usize, c: usize| {
            let taps = kernel.taps(columns.input, columns.output, x);
            let value = |at: usize| i32::from(pixels[(y * columns.input + at) * 3 + c]);
            let terms = (taps.first..).zip(&taps.weights).map(|(at, weight)| weight * value(at));
            i32::from(taps::rounded(terms.fold(taps::HALF, |sum, term| sum + term)))
        };
        let mut out = Vec::new();
        for y in rows.wanted.clone() {
            let taps = kernel.taps(rows.input, rows.output, y);
            for x in columns.wanted.clone() {
                for c in 0..3 {
                    let terms = (taps.first..).zip(&taps.weights).map(|(at, weight)| weight * narrow(at, x, c));
                    out.push(taps::rounded(terms.fold(taps::HALF, |sum, term| sum + term)));
                }
            }
        }
        out
    }

    #[test]
    fn every_bit_is_pillows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/pictures/lanczos.json");
        let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let size = |name: &str| [0, 1].map(|i| case[name][i].as_u64().unwrap() as usize);
            let (from, to) = (size("from"), size("to"));
            let [columns, rows] = [0, 1].map(|i| Axis::whole(from[i], to[i]));
            let colours = case["colours"].as_u64().unwrap() as usize;
            let pixels = rough(from, colours);
            let found = match colours {
                1 => resample::<1>(Kernel::Lanczos, &pixels, &rows, &columns),
                3 => resample::<3>(Kernel::Lanczos, &pixels, &rows, &columns),
                other => panic!("a picture of {other} colours"),
            };
            let hex = case["bytes"].as_str().unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            assert_eq!(found, bytes.collect::<Vec<u8>>(), "{case}");
        }
    }

    #[test]
    fn its_own_size_changes_nothing() {
        let pixels = rough([9, 7], 3);
        for kernel in KERNELS {
            assert_eq!(resample::<3>(kernel, &pixels, &Axis::whole(7, 7), &Axis::whole(9, 9)), pixels);
        }
    }

    #[test]
    fn what_is_wanted_is_cut_from_the_whole() {
        let pixels = rough([30, 40], 3);
        let cases = [([20, 33], [5..15, 10..20]), ([40, 33], [3..9, 0..33]), ([77, 30], [0..1, 28..30])];
        for kernel in KERNELS {
            for (output, wanted) in cases.clone() {
                let [rows, columns] = [Axis::whole(40, output[0]), Axis::whole(30, output[1])];
                let whole = resample::<3>(kernel, &pixels, &rows, &columns);
                let [rows, columns] =
                    [Axis { wanted: wanted[0].clone(), ..rows }, Axis { wanted: wanted[1].clone(), ..columns }];
                let part = resample::<3>(kernel, &pixels, &rows, &columns);
                let lines = whole.chunks(output[1] * 3).skip(rows.wanted.start).take(rows.wanted.len());
                let columns = columns.wanted.start * 3..columns.wanted.end * 3;
                let cut: Vec<u8> = lines.flat_map(|line| &line[columns.clone()]).copied().collect();
                assert_eq!(part, cut, "{output:?}, of it {wanted:?}");
            }
        }
    }

    #[test]
    fn whole_rows_at_once_are_pixel_by_pixel() {
        let pixels = rough([23, 31], 3);
        for kernel in KERNELS {
            for [height, width] in [[8, 8], [64, 5], [1, 70], [32, 24]] {
                let (rows, columns) = (Axis::whole(31, height), Axis::whole(23, width));
                let expected = slowly(kernel, &pixels, &rows, &columns);
                assert_eq!(resample::<3>(kernel, &pixels, &rows, &columns), expected, "{kernel:?} {height}x{width}");
            }
        }
    }
}
