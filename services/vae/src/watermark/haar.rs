//! The Haar wavelet of U, one block of 4×4 cells of 2×2 pixels at a time.
//!
//! In f64 and in PyWavelets' order of operations (`dwt2` along columns first, `idwt2` along rows first): the way back is cut to
//! bytes, not rounded, so the last bit of a sum decides a level.

/// Cells along a block's side, which are the coefficients along a side of its low band.
pub(super) const CELLS: usize = 4;

/// `1 / √2` as PyWavelets' filters have it, whose last digit is one above the constant's.
#[expect(clippy::approx_constant, reason = "the package's own digits")]
const TAP: f64 = 0.7071067811865476;

/// U of a pixel whose three bytes are Y, U, V.
const U: usize = 1;

/// Where a block lies: its first pixel, and how many cells it has each way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// One block's coefficients.
pub(super) struct Block {
    low: [f64; CELLS * CELLS],
    /// Horizontal, vertical and diagonal details.
    details: [[f64; 3]; CELLS * CELLS],
}

impl Block {
    /// The coefficients of the block at `place` of a picture in YUV.
    pub(super) fn read(yuv: &[u8], width: usize, place: Place) -> Self {
        let mut block = Self { low: [0.0; CELLS * CELLS], details: [[0.0; 3]; CELLS * CELLS] };
        for (cell, corners) in cells(width, place) {
            let [a, b, c, d] = corners.map(|at| f64::from(yuv[at]));
            let (left, right) = ((TAP * a + TAP * c, TAP * a - TAP * c), (TAP * b + TAP * d, TAP * b - TAP * d));
            block.low[cell] = TAP * left.0 + TAP * right.0;
            let horizontal = TAP * left.1 + TAP * right.1;
            let vertical = TAP * left.0 - TAP * right.0;
            block.details[cell] = [horizontal, vertical, TAP * left.1 - TAP * right.1];
        }
        block
    }

    /// The low band, row-major; what lies beyond the edge of a narrower block is zero.
    pub(super) fn low(&self) -> &[f64; CELLS * CELLS] {
        &self.low
    }

    pub(super) fn low_mut(&mut self) -> &mut [f64; CELLS * CELLS] {
        &mut self.low
    }

    /// Puts the block back. Horizontal and vertical details change places, as they do in the package.
    pub(super) fn write(&self, yuv: &mut [u8], width: usize, place: Place) {
        for (cell, [a, b, c, d]) in cells(width, place) {
            let (low, [vertical, horizontal, diagonal]) = (self.low[cell], self.details[cell]);
            let (upper, lower) = (
                [TAP * low + TAP * vertical, TAP * low - TAP * vertical],
                [TAP * horizontal + TAP * diagonal, TAP * horizontal - TAP * diagonal],
            );
            for (column, at) in [a, b].into_iter().enumerate() {
                yuv[at] = (TAP * upper[column] + TAP * lower[column]) as u8;
            }
            for (column, at) in [c, d].into_iter().enumerate() {
                yuv[at] = (TAP * upper[column] - TAP * lower[column]) as u8;
            }
        }
    }
}

/// Each cell of a block: its number, and where its pixels' U lies: above left, above right, below left, below right.
fn cells(width: usize, place: Place) -> impl Iterator<Item = (usize, [usize; 4])> {
    (0..place.rows).flat_map(move |row| {
        (0..place.columns).map(move |column| {
            let first = (place.y + 2 * row) * width + place.x + 2 * column;
            (row * CELLS + column, [first, first + 1, first + width, first + width + 1].map(|pixel| pixel * 3 + U))
        })
    })
}
