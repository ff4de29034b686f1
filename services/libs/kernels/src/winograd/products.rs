//! The output side: products summed over the channels by the micro-kernel, transformed back and written.

use super::Grid;
use super::patches::Patches;
use crate::element::Element;
use crate::epilogue::Finish;
use crate::layout::{CHUNK_WORDS, Panel};
use crate::memory::{LINE_WORDS, Scratch};
use crate::pack::PackedWeights;
use crate::simd::{Arch, Kernel, Vector};
use crate::tile::{Ahead, Tile};
use crate::transform::{Transform, both_ways};
use std::marker::PhantomData;
use std::ops::Range;

/// No tile has more rows.
const MOST_ROWS: usize = 8;

/// What all tasks share.
pub(super) struct Products<'a> {
    weights: &'a PackedWeights,
    finish: Finish<'a>,
    grid: Grid,
    /// Height and width of the output.
    size: [usize; 2],
    /// Words of the reduction, and those that are summed before the next product's turn.
    words: usize,
    chunk: usize,
    stride: usize,
}

impl<'a> Products<'a> {
    pub(super) fn new(weights: &'a PackedWeights, finish: Finish<'a>, patches: &Patches, size: [usize; 2]) -> Self {
        let words = patches.words;
        // Chunks of equal size, give or take one.
        let chunk = words.div_ceil(words.div_ceil(CHUNK_WORDS).max(1));
        Products { weights, finish, grid: patches.grid, size, words, chunk, stride: patches.stride }
    }
}

/// Multiplies some tiles by some panels. `from` holds what [`super::patches::TransformTiles`] wrote for the tiles.
pub(super) struct Multiply<'a, T, E, const P: usize, const M: usize> {
    pub(super) products: &'a Products<'a>,
    pub(super) tiles: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) from: *const u32,
    pub(super) pitch: usize,
    pub(super) types: PhantomData<(T, E)>,
}

impl<T: Transform<P, M>, E: Element, const P: usize, const M: usize> Kernel for Multiply<'_, T, E, P, M> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let Products { weights, words, chunk, stride, .. } = *self.products;
        let count = self.tiles.len();
        let groups = count.div_ceil(A::MR);
        // An odd number of lines, as between factors.
        let group_sums = A::MR * 3 * A::V::LANES + LINE_WORDS;
        let mut sums = Scratch::words(groups * P * P * group_sums);
        let sums: *mut f32 = sums.as_mut_ptr().cast();
        for &panel in &weights.panels[self.panels.clone()] {
            let width = panel.vectors * A::V::LANES;
            let mut line: *const f32 = weights.panel_words(panel, 0).cast();
            for product in 0..P * P {
                for start in (0..words).step_by(chunk.max(1)) {
                    let len = chunk.min(words - start);
                    for group in 0..groups {
                        let rows: [*const f32; MOST_ROWS] = std::array::from_fn(|r| {
                            let tile = (group * A::MR + r).min(count - 1);
                            self.from.wrapping_add(product * self.pitch + tile * stride + start).cast()
                        });
                        // SAFETY: rows past the last tile repeat it; the panel has `words` lines for every product, each group
                        // its sums of every product.
                        unsafe {
                            A::multiply::<E>(
                                panel.vectors,
                                Tile {
                                    segments: &[len],
                                    rows: rows.as_ptr(),
                                    panel: line,
                                    sums: sums.add((group * P * P + product) * group_sums),
                                    fresh: start == 0,
                                    ahead: Ahead::part(line, len * width, len, group, groups),
                                },
                            );
                        }
                    }
                    line = line.wrapping_add(len * width);
                }
            }
            for (i, tile) in self.tiles.clone().enumerate() {
                // SAFETY: the sums of row `i % MR` of a group of tiles, every product's; this task alone writes the tile's outputs.
                unsafe {
                    let sums = sums.add(i / A::MR * P * P * group_sums + i % A::MR * width);
                    self.write::<A>(panel, tile, sums, group_sums);
                }
            }
        }
    }
}

impl<T: Transform<P, M>, E: Element, const P: usize, const M: usize> Multiply<'_, T, E, P, M> {
    /// Transforms a tile's sums back and writes the outputs that exist.
    ///
    /// # Safety
    /// Every product has the panel's columns of sums, `pitch` after those of the product before it; the tile exists and no other
    /// task writes these columns of it.
    #[inline(always)]
    unsafe fn write<A: Arch>(&self, panel: Panel, tile: usize, sums: *const f32, pitch: usize) {
        let Products { ref finish, grid, size: [height, width], weights, .. } = *self.products;
        let [picture, y, x] = grid.at(tile);
        let (rows, columns) = (M.min(height - y * M), M.min(width - x * M));
        for vector in 0..panel.vectors {
            let column = panel.column + vector * A::V::LANES;
            let count = A::V::LANES.min(weights.n - column);
            // SAFETY: the caller's promise about the sums; rows and columns of the picture exist, and so does the first of a
            // register's columns, as a panel has no empty registers.
            unsafe {
                let sums = sums.add(vector * A::V::LANES);
                let square = both_ways!(T::outputs::<A::V>, rows == M, columns == M; P => M, |i, j| A::V::load(sums.add((i * P + j) * pitch)));
                for (i, line) in square.iter().enumerate().take(rows) {
                    let first = (picture * height + y * M + i) * width + x * M;
                    for (j, outputs) in line.iter().enumerate().take(columns) {
                        finish.put::<A>(*outputs, first + j, column, count);
                    }
                }
            }
        }
    }
}
