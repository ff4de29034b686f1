//! The driver shared by GEMM and convolution: cuts the output into blocks, one task each, and walks a block's tiles.
//!
//! A task owns some rows and some panels of the output. For each panel and each chunk of the reduction it runs the
//! micro-kernel over all its row tiles, so that the chunk's words stay in the second-level cache while they are used; the
//! sums wait in scratch between chunks, and the epilogue writes a tile after the last one.

use crate::element::{Element, Precision};
use crate::epilogue::Finish;
use crate::memory::Scratch;
use crate::pack::PackedWeights;
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::tile::{Ahead, Tile};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of input that a block of rows may span: half of a 1 MiB second-level cache.
const BLOCK_BYTES: usize = 512 << 10;
/// A block's rows: below the first, panels are read too often; above the second, sums and pointers fill the cache.
const BLOCK_ROWS: Range<usize> = 64..256;
/// Tasks a thread: enough to even out the last ones.
const TASKS_A_THREAD: usize = 12;

/// The left operand: rows whose segments lie in memory word by word.
pub(crate) trait Input: Sync {
    /// Bytes of memory that one more row brings into play.
    fn row_bytes(&self) -> usize;

    /// Words of scratch that [`Input::locate`] needs for `rows` rows.
    fn scratch_words(&self, rows: usize) -> usize;

    /// Writes where each row's segments start: for every tile of `A::MR` rows, for every segment, `A::MR` pointers. Rows past
    /// the end repeat the last one. The pointers stay valid while `self` and the scratch do.
    ///
    /// # Safety
    /// `rows` are rows of the output; `pointers` has room for every tile; `scratch` has the words asked for.
    unsafe fn locate<A: Arch>(&self, rows: Range<usize>, pointers: *mut *const f32, scratch: *mut u32);
}

/// Computes all `rows` rows of the output from `input` and `weights`.
///
/// # Safety
/// `input` has `rows` rows with the segments of `weights`; `finish` was made for `weights` and `rows`.
pub(crate) unsafe fn multiply<I: Input>(weights: &PackedWeights, input: &I, rows: usize, finish: Finish<'_>) {
    if rows == 0 || weights.panels.is_empty() {
        return;
    }
    let block_rows = (BLOCK_BYTES / input.row_bytes().max(1)).clamp(BLOCK_ROWS.start, BLOCK_ROWS.end) & !7;
    // As many rows in each, give or take a tile.
    let row_blocks = rows.div_ceil(block_rows);
    let block_rows = rows.div_ceil(row_blocks).next_multiple_of(8);
    let row_blocks = rows.div_ceil(block_rows);
    let wanted = TASKS_A_THREAD * rayon::current_num_threads();
    let panel_blocks = wanted.div_ceil(row_blocks).min(weights.panels.len());
    let panels_each = weights.panels.len().div_ceil(panel_blocks);
    let panel_blocks = weights.panels.len().div_ceil(panels_each);

    (0..row_blocks * panel_blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (row_block, panel_block) = (task / panel_blocks, task % panel_blocks);
        let rows = row_block * block_rows..rows.min((row_block + 1) * block_rows);
        let panels = panel_block * panels_each..weights.panels.len().min((panel_block + 1) * panels_each);
        let block = Block { weights, input, rows, panels, finish };
        match weights.precision {
            Precision::F32 => dispatch(weights.isa, Compute::<I, f32>(block, std::marker::PhantomData)),
            Precision::Bf16 => dispatch(weights.isa, Compute::<I, bf16>(block, std::marker::PhantomData)),
        }
    });
}

/// One task's share of the output.
struct Block<'a, I> {
    weights: &'a PackedWeights,
    input: &'a I,
    rows: Range<usize>,
    panels: Range<usize>,
    finish: Finish<'a>,
}

struct Compute<'a, I, E>(Block<'a, I>, std::marker::PhantomData<E>);

impl<I: Input, E: Element> Kernel for Compute<'_, I, E> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let Block { weights, input, rows, panels, finish } = self.0;
        let segments: Vec<usize> = weights.segments.iter().map(|segment| segment.words(E::PER_WORD)).collect();
        let tiles = rows.len().div_ceil(A::MR);
        let mut pointers = vec![std::ptr::null::<f32>(); tiles * segments.len() * A::MR];
        let mut scratch = Scratch::words(input.scratch_words(rows.len()));
        // SAFETY: room for every tile, and the words asked for.
        unsafe { input.locate::<A>(rows.clone(), pointers.as_mut_ptr(), scratch.as_mut_ptr()) };

        let tile_sums = A::MR * 3 * A::V::LANES;
        let mut sums = Scratch::words(tile_sums * tiles);
        let sums: *mut f32 = sums.as_mut_ptr().cast();
        for &panel in &weights.panels[panels] {
            for chunk in &weights.chunks {
                let last = chunk.end == segments.len();
                let words: *const f32 = weights.panel_words(panel, chunk.start).cast();
                let depth: usize = segments[chunk.clone()].iter().sum();
                for tile in 0..tiles {
                    let first = rows.start + tile * A::MR;
                    // SAFETY: pointers, panel and sums are those of this tile; a tile has the rows that `locate` wrote, and
                    // this task alone owns these rows and panels of the output.
                    unsafe {
                        let sums = sums.add(if weights.chunks.len() == 1 { 0 } else { tile * tile_sums });
                        let rows_at = (tile * segments.len() + chunk.start) * A::MR;
                        A::multiply::<E>(
                            panel.vectors,
                            Tile {
                                segments: &segments[chunk.clone()],
                                rows: pointers.as_ptr().add(rows_at),
                                panel: words,
                                sums,
                                fresh: chunk.start == 0,
                                ahead: Ahead::part(words, depth * panel.vectors * A::V::LANES, depth, tile, tiles),
                            },
                        );
                        if last {
                            finish.write::<A>(panel, first, A::MR.min(rows.end - first), sums);
                        }
                    }
                }
            }
        }
    }
}
