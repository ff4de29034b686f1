//! The input side: patches of pixels, transformed into the rows of one matrix for each product.

use super::Grid;
use crate::conv::Image;
use crate::element::Element;
use crate::memory::{LINE_WORDS, Words};
use crate::rows::{RowsPtr, Source};
use crate::simd::{Arch, Kernel, Vector};
use crate::storage::{Storage, load};
use crate::transform::{Transform, both_ways};
use std::marker::PhantomData;
use std::ops::Range;

/// The patches of all tiles of the images.
pub(super) struct Patches {
    parts: Vec<Part>,
    pub(super) grid: Grid,
    /// Rows of a picture, and those of them above the first tile.
    seen: usize,
    above: usize,
    width: usize,
    /// Words of a transformed tile, those of one product.
    pub(super) words: usize,
    /// Words from one transformed tile to the next: room for a whole register after the last channel, and an odd number of
    /// lines so that the rows of the micro-kernel spread over the first-level cache.
    pub(super) stride: usize,
    /// A pixel of zeros, for the border.
    zeros: Words,
}

/// One image's channels.
struct Part {
    source: Source,
    channels: usize,
    /// Its first word in a transformed tile.
    word: usize,
}

// SAFETY: pixels are only read while tasks run.
unsafe impl Sync for Patches {}

impl Patches {
    pub(super) fn new<E: Element>(images: &[Image<'_>], step: usize) -> Patches {
        let Image { batch, height, width, above, .. } = images[0];
        let (mut words, mut most) = (0, 0);
        let part = |image: &Image<'_>| {
            let channels = image.pixels.cols;
            let part = Part { source: image.pixels.source(), channels, word: words };
            words += channels.div_ceil(E::PER_WORD);
            most = channels.max(most);
            part
        };
        let parts = images.iter().map(part).collect();
        let stride = ((words + LINE_WORDS).div_ceil(LINE_WORDS) | 1) * LINE_WORDS;
        let grid = Grid { batch, height: height.div_ceil(step), width: width.div_ceil(step) };
        let seen = images[0].seen();
        Patches { parts, grid, seen, above, width, words, stride, zeros: Words::zeroed(most) }
    }
}

/// Transforms the patches of some tiles: the factors of a tile lie `pitch` words apart, tiles `stride`.
pub(super) struct TransformTiles<'a, T, E, const P: usize, const M: usize> {
    pub(super) patches: &'a Patches,
    pub(super) tiles: Range<usize>,
    pub(super) to: *mut u32,
    pub(super) pitch: usize,
    pub(super) types: PhantomData<(T, E)>,
}

impl<T: Transform<P, M>, E: Element, const P: usize, const M: usize> Kernel for TransformTiles<'_, T, E, P, M> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let stride = self.patches.stride;
        for (i, tile) in self.tiles.clone().enumerate() {
            for part in &self.patches.parts {
                // SAFETY: the tile exists and `to` has a row for each of its factors, with room for the part's words.
                unsafe {
                    let to = self.to.add(i * stride + part.word).cast();
                    match part.source.start {
                        RowsPtr::F32(start) => self.transform::<A, f32>(part, start, tile, to),
                        RowsPtr::Bf16(start) => self.transform::<A, u16>(part, start, tile, to),
                    }
                }
            }
        }
    }
}

impl<T: Transform<P, M>, E: Element, const P: usize, const M: usize> TransformTiles<'_, T, E, P, M> {
    /// # Safety
    /// `start` is the part's, the tile exists, and rows of `to` have room for the part's words and a register more.
    #[inline(always)]
    unsafe fn transform<A: Arch, S: Storage>(&self, part: &Part, start: *const S, tile: usize, to: *mut E::Stored) {
        let Patches { seen, above, width, grid, ref zeros, .. } = *self.patches;
        let [picture, y, x] = grid.at(tile);
        let pixel = |i: usize, j: usize| {
            // One more than the row and the column, as the patch starts before the tile.
            let (row, column) = (above + y * T::STEP + i, x * T::STEP + j);
            let inside = (1..=seen).contains(&row) && (1..=width).contains(&column);
            // SAFETY: inside, the picture has the pixel.
            let there = || unsafe { start.add(((picture * seen + row - 1) * width + column - 1) * part.source.stride) };
            if inside { there() } else { zeros.as_ptr().cast() }
        };
        let pixels: [[*const S; P]; P] = std::array::from_fn(|i| std::array::from_fn(|j| pixel(i, j)));
        let pitch = self.pitch * E::PER_WORD;
        let mut channel = 0;
        while channel < part.channels {
            let count = A::V::LANES.min(part.channels - channel);
            // SAFETY: pixels and zeros have the channels. Lanes past the last one are zeros, the second half of an odd word
            // among them; the next part or nobody uses what they overwrite.
            unsafe {
                let square =
                    both_ways!(T::patch::<A::V>; P => P, |i, j| load::<A, S>(pixels[i][j].add(channel), count));
                for (i, factor) in square.as_flattened().iter().enumerate() {
                    E::Stored::store::<A>(*factor, to.add(i * pitch + channel));
                }
            }
            channel += A::V::LANES;
        }
    }
}
