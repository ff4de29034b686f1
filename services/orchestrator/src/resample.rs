//! 8-bit pictures at another size, with Pillow's bits: the references scale what they begin from with its LANCZOS.
//!
//! Two passes of convolution, across and then down, each rounded to 8 bits; when a picture gets smaller the kernel is stretched. Weights are
//! fixed point with 22 bits behind it (Pillow's `src/libImaging/Resample.c` up to version 12; 13 goes down first where a picture
//! gets lower and not narrower, which a few rough pixels show).

/// Bits behind the point: a sum of weights times a byte fits into 32 bits, and so do overshoots.
const PRECISION: u32 = 32 - 8 - 2;
/// Lobes of the kernel on each side.
const LOBES: f64 = 3.0;

/// A row-major picture of `colours` bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) colours: usize,
    /// Width and height.
    pub(crate) size: [usize; 2],
    pub(crate) data: Vec<u8>,
}

impl Pixels {
    /// The picture at another size.
    pub(crate) fn lanczos(self, size: [usize; 2]) -> Self {
        self.across(size[0]).down(size[1])
    }

    fn across(self, width: usize) -> Self {
        if width == self.size[0] {
            return self;
        }
        let taps = taps(self.size[0], width);
        let mut data = Vec::with_capacity(width * self.size[1] * self.colours);
        for row in self.data.chunks_exact(self.size[0] * self.colours) {
            for tap in &taps {
                let pixels = &row[tap.first * self.colours..];
                for colour in 0..self.colours {
                    let values = pixels[colour..].iter().step_by(self.colours);
                    data.push(tap.sum(values));
                }
            }
        }
        Self { colours: self.colours, size: [width, self.size[1]], data }
    }

    fn down(self, height: usize) -> Self {
        if height == self.size[1] {
            return self;
        }
        let stride = self.size[0] * self.colours;
        let mut data = Vec::with_capacity(stride * height);
        for tap in taps(self.size[1], height) {
            let rows = &self.data[tap.first * stride..];
            data.extend((0..stride).map(|column| tap.sum(rows[column..].iter().step_by(stride))));
        }
        Self { colours: self.colours, size: [self.size[0], height], data }
    }
}

/// What makes one pixel: weights of neighbours, from the first on.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Tap {
    fn sum<'a>(&self, values: impl Iterator<Item = &'a u8>) -> u8 {
        let half = 1 << (PRECISION - 1);
        let sum = self.weights.iter().zip(values).fold(half, |sum, (weight, value)| sum + weight * i32::from(*value));
        (sum >> PRECISION).clamp(0, 255) as u8
    }
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = LOBES * stretch;
    let tap = |index: usize| {
        let centre = (index as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |at: usize| lanczos((at as f64 - centre + 0.5) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
        Tap { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

fn lanczos(x: f64) -> f64 {
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(37 x + 101 y + 59 c + 7 x y) mod 256`: as rough as pictures get.
    fn rough([width, height]: [usize; 2], colours: usize) -> Pixels {
        let row =
            |y| (0..width).flat_map(move |x| (0..colours).map(move |c| (37 * x + 101 * y + 59 * c + 7 * x * y) as u8));
        Pixels { colours, size: [width, height], data: (0..height).flat_map(row).collect() }
    }

    #[test]
    fn every_bit_is_pillows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/pictures/lanczos.json");
        let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let size = |name: &str| [0, 1].map(|i| case[name][i].as_u64().unwrap() as usize);
            let colours = case["colours"].as_u64().unwrap() as usize;
            let hex = case["bytes"].as_str().unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            let found = rough(size("from"), colours).lanczos(size("to"));
            assert_eq!(found, Pixels { colours, size: size("to"), data: bytes.collect() }, "{case}");
        }
    }

    #[test]
    fn its_own_size_changes_nothing() {
        let picture = rough([5, 4], 3);
        assert_eq!(picture.clone().lanczos([5, 4]), picture);
    }
}
