//! Pictures in horizontal bands, so that a layer's input is let go while its output is made, and nothing else is as large as either.
//!
//! Layer by layer, an image is a list of bands. A convolution takes the rows around a band from its neighbours, and a group
//! normalisation has the statistics of all bands before it is applied to one: nothing is computed twice, and every value is what it would be in
//! the undivided picture; on a CPU to the last bit. Of a residual block the input and the hidden image are in memory, and of each
//! other image one band.

mod decode;
mod encode;
mod resnet;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use crate::compute::{Activation, Backend, Margins, ModelError};

/// A band has a multiple of this many rows: a kernel may cut an image into tiles of four rows from its top, and an enlarging layer needs
/// an even number.
const STEP: usize = 4;

/// When a picture is divided, and how finely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Pictures of more pixels than this are computed in bands.
    pub undivided_pixels: usize,
    /// Memory of a band of one layer's output in f32, in bytes; of at least four rows all the same.
    pub band_bytes: usize,
}

impl Default for Division {
    /// Up to 768×768 pixels undivided; 32 MiB, which are 64 of the rows of 1024 pixels with 128 channels.
    fn default() -> Self {
        Self { undivided_pixels: 768 * 768, band_bytes: 32 << 20 }
    }
}

impl Division {
    /// Whether a picture is computed in bands.
    pub(crate) fn divides(&self, height: usize, width: usize) -> bool {
        height.saturating_mul(width) > self.undivided_pixels
    }

    /// The bands of an image, top to bottom. All have about the same memory, so that one may take another's.
    fn bands(self, Size { height, width }: Size, channels: usize) -> impl Iterator<Item = Range<usize>> {
        let row = (size_of::<f32>() * width * channels).max(1);
        let rows = (self.band_bytes / row / STEP * STEP).max(STEP);
        (0..height).step_by(rows).map(move |first| first..height.min(first + rows))
    }
}

/// Rows and columns of an image.
#[derive(Clone, Copy)]
struct Size {
    height: usize,
    width: usize,
}

/// An image from its first row that is still needed to the last that is there already.
struct Bands<B: Backend> {
    bands: VecDeque<Band<B>>,
    /// Of the whole image.
    size: Size,
}

struct Band<B: Backend> {
    tensor: B::Tensor,
    rows: Range<usize>,
}

impl<B: Backend> Bands<B> {
    /// An image of which nothing is there yet.
    fn new(size: Size) -> Self {
        Self { bands: VecDeque::new(), size }
    }

    /// An image in one piece.
    fn whole(backend: &B, image: B::Tensor) -> Result<Self, ModelError> {
        let (height, width) = backend.image_size(&image)?;
        let mut bands = Self::new(Size { height, width });
        bands.push(0..height, image);
        Ok(bands)
    }

    /// The next rows.
    fn push(&mut self, rows: Range<usize>, tensor: B::Tensor) {
        self.bands.push_back(Band { tensor, rows });
    }

    /// Lets go what ends before `row`.
    fn release(&mut self, row: usize) {
        while self.bands.front().is_some_and(|band| band.rows.end <= row) {
            self.bands.pop_front();
        }
    }

    /// What `norm` makes of the image, all of which is there.
    fn moments(&self, backend: &B, norm: &B::GroupNorm) -> Result<B::GroupMoments, ModelError> {
        backend.group_moments(norm, &self.bands.iter().map(|band| &band.tensor).collect::<Vec<_>>())
    }

    /// Some rows, in as many pieces as there are bands with any of them.
    fn pieces(&self, backend: &B, rows: &Range<usize>) -> Result<Vec<B::Tensor>, ModelError> {
        let piece = |band: &Band<B>| {
            let (first, end) = (rows.start.max(band.rows.start), rows.end.min(band.rows.end));
            let inside = first.checked_sub(band.rows.start)?..end.checked_sub(band.rows.start)?;
            (first < end).then(|| backend.rows(&band.tensor, inside))
        };
        self.bands.iter().filter_map(piece).collect()
    }

    /// Some rows as one image.
    fn rows(&self, backend: &B, rows: &Range<usize>) -> Result<B::Tensor, ModelError> {
        let pieces = self.pieces(backend, rows)?;
        backend.stack_rows(&pieces.iter().collect::<Vec<_>>())
    }

    /// Some rows with `before` more above and `after` below, as far as the image has them: what a window sees.
    fn seen(
        &self,
        backend: &B,
        rows: &Range<usize>,
        before: usize,
        after: usize,
    ) -> Result<(B::Tensor, Margins), ModelError> {
        let (seen, margins) = self.around(rows, before, after);
        Ok((self.rows(backend, &seen)?, margins))
    }

    /// As [`Bands::seen`] with a row on either side, normalised and through SiLU.
    fn normed(
        &self,
        backend: &B,
        norm: &B::GroupNorm,
        moments: &B::GroupMoments,
        rows: &Range<usize>,
    ) -> Result<(B::Tensor, Margins), ModelError> {
        let (seen, margins) = self.around(rows, 1, 1);
        let pieces = self.pieces(backend, &seen)?;
        let pieces: Vec<_> = pieces.iter().collect();
        Ok((backend.group_norm_rows(norm, moments, &pieces, Activation::Silu)?, margins))
    }

    fn around(&self, rows: &Range<usize>, before: usize, after: usize) -> (Range<usize>, Margins) {
        around(rows, self.size.height, before, after)
    }
}

/// Rows with their margins in an image of `height` rows.
fn around(rows: &Range<usize>, height: usize, before: usize, after: usize) -> (Range<usize>, Margins) {
    let seen = rows.start.saturating_sub(before)..height.min(rows.end + after);
    let margins = Margins { above: rows.start - seen.start, below: seen.end - rows.end };
    (seen, margins)
}
