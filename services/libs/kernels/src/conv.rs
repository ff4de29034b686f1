//! Convolution over channels-last images as a GEMM whose left operand is never built.
//!
//! Row `p` of that operand is the window of output pixel `p`: one run of channels for each tap. The micro-kernel reads rows
//! through pointers, so a tap needs only the address of its pixel, or of a row of zeros outside the image. Stride, padding,
//! nearest upsampling and a second image beside the first change nothing but these addresses.

use crate::blocks::{self, Input};
use crate::convert::convert_row;
use crate::element::Precision;
use crate::epilogue::{Epilogue, Finish};
use crate::isa::Isa;
use crate::layout::{Segment, per_word};
use crate::matrix::{Matrix, MatrixMut, Values};
use crate::memory::{Scratch, Words};
use crate::pack::PackedWeights;
use crate::rows::{RowsPtr, Source};
use crate::simd::{Arch, Kernel, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// A batch of channels-last pictures, `[batch, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub(crate) pixels: Matrix<'a>,
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Rows that are only looked at, see [`Image::within`].
    pub(crate) above: usize,
    pub(crate) below: usize,
}

impl<'a> Image<'a> {
    /// # Panics
    /// `values` are fewer than the shape says.
    pub fn new(values: impl Into<Values<'a>>, [batch, height, width, channels]: [usize; 4]) -> Image<'a> {
        let pixels = Matrix::new(values, batch * height * width, channels);
        Image { pixels, batch, height, width, above: 0, below: 0 }
    }

    /// The band of each picture between its first `above` and last `below` rows. The windows of a convolution see those rows, where
    /// they would see zeros around a picture of its own, and have no outputs there.
    ///
    /// # Panics
    /// The pictures have fewer rows than those, or are bands already.
    #[must_use]
    pub fn within(self, above: usize, below: usize) -> Image<'a> {
        assert!(self.above + self.below == 0 && above + below <= self.height, "a band within {} rows", self.height);
        Image { height: self.height - above - below, above, below, ..self }
    }

    /// Rows of a picture with those that are only looked at.
    pub(crate) fn seen(&self) -> usize {
        self.above + self.height + self.below
    }

    /// What images that are read as one have in common.
    pub(crate) fn size(&self) -> [usize; 5] {
        [self.batch, self.height, self.width, self.above, self.below]
    }
}

/// Where a convolution looks: a square kernel over the image, or over its nearest-neighbour enlargement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Taps in each direction.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Rows and columns of zeros before the image.
    pub before: usize,
    /// Rows and columns of zeros after it.
    pub after: usize,
    /// Height and width that the image is enlarged to first.
    pub upsample: Option<[usize; 2]>,
}

impl Window {
    /// One tap: a linear layer over pixels.
    pub const POINT: Window = Window { kernel: 1, stride: 1, before: 0, after: 0, upsample: None };
    /// 3×3 that keeps the size.
    pub const SAME: Window = Window { kernel: 3, stride: 1, before: 1, after: 1, upsample: None };
    /// 3×3 that halves the size, as the UNet does.
    pub const HALF: Window = Window { kernel: 3, stride: 2, before: 1, after: 1, upsample: None };
    /// 3×3 that halves the size with zeros only after the image, as the autoencoder does.
    pub const HALF_AFTER: Window = Window { kernel: 3, stride: 2, before: 0, after: 1, upsample: None };

    /// Height and width of the result for an image of `size`.
    ///
    /// # Panics
    /// The kernel is larger than the padded image, or the stride is zero.
    pub fn output(&self, size: [usize; 2]) -> [usize; 2] {
        self.upsample.unwrap_or(size).map(|length| {
            let padded = length + self.before + self.after;
            assert!(padded >= self.kernel && self.stride > 0, "{self:?} over {length} pixels");
            (padded - self.kernel) / self.stride + 1
        })
    }
}

/// `out[batch · height · width, n] = epilogue(convolution of the images' channels, one after the other)`.
///
/// Bits depend on the picture, the weights and the instruction set alone, as with [`crate::gemm()`]. Images of the other
/// precision are converted once, as a whole.
///
/// # Panics
/// Shapes do not fit each other, there are no images, or bands are enlarged by no whole number.
pub fn conv2d(
    images: &[Image<'_>],
    weights: &PackedWeights,
    window: Window,
    epilogue: &Epilogue<'_>,
    out: &mut MatrixMut<'_>,
) {
    let Image { batch, height, width, .. } = images[0];
    let channels: usize = images.iter().map(|image| image.pixels.cols).sum();
    let [rows, cols] = window.output([height, width]);
    assert!(images.iter().all(|image| image.size() == images[0].size()), "image sizes");
    assert_eq!(window.kernel * window.kernel * channels, weights.input_columns(), "channels and taps");
    assert_eq!((out.rows, out.cols), (batch * rows * cols, weights.output_columns()), "output shape");
    let last = weights.segments.last().map(|segment| segment.source + 1);
    assert!(
        last.is_none_or(|sources| sources == window.kernel * window.kernel * images.len()),
        "weights of as many images"
    );
    let ends = weights.segments.iter().map(|segment| (segment.source % images.len(), segment.offset + segment.len));
    assert!(ends.into_iter().all(|(image, end)| end <= images[image].pixels.cols), "channels of each image");

    let words: Vec<usize> =
        images.iter().map(|image| image.pixels.cols.div_ceil(per_word(weights.precision))).collect();
    let mut copies: Vec<Option<Scratch>> = Vec::new();
    let pixels = images.iter().zip(&words).map(|(image, &words)| {
        let mut copy =
            (!in_place(image, weights.precision)).then(|| convert(weights.isa, weights.precision, image, words));
        let pixels = Pixels::new(image, copy.as_mut().map(Scratch::as_mut_ptr), words);
        copies.push(copy);
        pixels
    });
    let windows = Windows {
        pixels: pixels.collect(),
        window,
        seen: Seen::new(&images[0], window),
        output: [rows, cols],
        segments: &weights.segments,
        per_word: per_word(weights.precision),
        zeros: Words::zeroed(words.iter().copied().max().unwrap_or(0)),
        row_bytes: 4 * words.iter().sum::<usize>(),
    };
    let finish = Finish::new(weights, epilogue, out.rows, out.target());
    // SAFETY: shapes are checked above; copies live until the end of this function.
    unsafe { blocks::multiply(weights, &windows, out.rows, finish) }
}

/// Whether the micro-kernel can read the pixels where they are: in its precision and in whole words.
fn in_place(image: &Image<'_>, precision: Precision) -> bool {
    match image.pixels.values {
        Values::F32(_) => precision == Precision::F32,
        Values::Bf16(_) => precision == Precision::Bf16 && image.pixels.cols.is_multiple_of(2),
    }
}

/// A copy of the image's pixels as `words` words of `precision` each.
fn convert(isa: Isa, precision: Precision, image: &Image<'_>, words: usize) -> Scratch {
    /// Pixels a task converts.
    const RUN: usize = 256;
    let (source, rows, cols) = (image.pixels.source(), image.pixels.rows, image.pixels.cols);
    let mut copy = Scratch::words(rows * words);
    let to = Start(copy.as_mut_ptr());
    (0..rows.div_ceil(RUN)).into_par_iter().for_each(|run| {
        let rows = run * RUN..rows.min((run + 1) * RUN);
        dispatch(isa, ConvertRows { source, rows, cols, precision, to: to.get(), words });
    });
    copy
}

/// The start of a copy that tasks fill side by side.
struct Start(*mut u32);

// SAFETY: each task writes its own rows.
unsafe impl Sync for Start {}

impl Start {
    fn get(&self) -> *mut u32 {
        self.0
    }
}

struct ConvertRows {
    source: Source,
    rows: Range<usize>,
    cols: usize,
    precision: Precision,
    to: *mut u32,
    words: usize,
}

impl Kernel for ConvertRows {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        for row in self.rows {
            // SAFETY: the row exists in the image and has its words in the copy.
            unsafe { convert_row::<A>(self.source.row(row), self.cols, self.precision, self.to.add(row * self.words)) }
        }
    }
}

/// Pixels the micro-kernel can read.
#[derive(Clone, Copy)]
struct Pixels {
    start: *const u8,
    /// Bytes from one pixel to the next.
    pitch: usize,
}

impl Pixels {
    fn new(image: &Image<'_>, copy: Option<*mut u32>, words: usize) -> Pixels {
        match (copy, image.pixels.source().start) {
            (Some(copy), _) => Pixels { start: copy.cast_const().cast(), pitch: 4 * words },
            (None, RowsPtr::F32(start)) => Pixels { start: start.cast(), pitch: 4 * words },
            (None, RowsPtr::Bf16(start)) => Pixels { start: start.cast(), pitch: 4 * words },
        }
    }
}

/// What windows see of a picture: all that is there, more than has outputs where it is a band.
#[derive(Clone, Copy)]
struct Seen {
    /// Rows and columns.
    size: [usize; 2],
    /// The same after enlargement.
    enlarged: [usize; 2],
    /// The first row and column that have outputs, after enlargement.
    start: [usize; 2],
}

impl Seen {
    fn new(image: &Image<'_>, window: Window) -> Seen {
        let &Image { height, width, above, below, .. } = image;
        let enlarged = window.upsample.unwrap_or([height, width]);
        let whole = height > 0 && enlarged[0].is_multiple_of(height);
        assert!(above + below == 0 || whole, "a band of {height} rows enlarged to {}", enlarged[0]);
        let each = enlarged[0].checked_div(height).unwrap_or(0);
        Seen {
            size: [image.seen(), width],
            enlarged: [enlarged[0] + each * (above + below), enlarged[1]],
            start: [each * above, 0],
        }
    }
}

/// The windows of all output pixels.
struct Windows<'a> {
    pixels: Vec<Pixels>,
    window: Window,
    seen: Seen,
    output: [usize; 2],
    segments: &'a [Segment],
    per_word: usize,
    zeros: Words,
    row_bytes: usize,
}

// SAFETY: pixels are only read while tasks run.
unsafe impl Sync for Windows<'_> {}

impl Windows<'_> {
    /// The input pixel under tap `tap` of output pixel `row`, or none in the padding.
    #[inline(always)]
    fn pixel(&self, row: usize, tap: usize) -> Option<usize> {
        let [height, width] = self.output;
        let at = [row / width % height, row % width];
        let tap = [tap / self.window.kernel, tap % self.window.kernel];
        let Seen { size, enlarged, start } = self.seen;
        let mut found = [0; 2];
        for axis in 0..2 {
            let position = (start[axis] + at[axis] * self.window.stride + tap[axis]).checked_sub(self.window.before)?;
            if position >= enlarged[axis] {
                return None;
            }
            found[axis] = position * size[axis] / enlarged[axis];
        }
        Some((row / (width * height) * size[0] + found[0]) * size[1] + found[1])
    }
}

impl Input for Windows<'_> {
    fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    fn scratch_words(&self, _rows: usize) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn locate<A: Arch>(&self, rows: Range<usize>, pointers: *mut *const f32, _scratch: *mut u32) {
        let images = self.pixels.len();
        for tile in 0..rows.len().div_ceil(A::MR) {
            for r in 0..A::MR {
                let row = (rows.start + tile * A::MR + r).min(rows.end - 1);
                let mut pixel = None;
                for (s, segment) in self.segments.iter().enumerate() {
                    let (tap, image) = (segment.source / images, segment.source % images);
                    if segment.offset == 0 && image == 0 {
                        pixel = self.pixel(row, tap);
                    }
                    let Pixels { start, pitch } = self.pixels[image];
                    // SAFETY: the pixel lies in the image and the segment in the pixel; zeros are as long as any pixel; the
                    // caller made room for every tile.
                    unsafe {
                        let start = pixel.map_or(self.zeros.as_ptr().cast(), |pixel| start.add(pixel * pitch));
                        let at = (tile * self.segments.len() + s) * A::MR + r;
                        *pointers.add(at) = start.add(4 * (segment.offset / self.per_word)).cast();
                    }
                }
            }
        }
    }
}
