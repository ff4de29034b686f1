//! Attention that never holds the matrix of scores: online softmax over blocks of keys.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), as in FlashAttention: a row of queries keeps
//! the largest score m so far, the sum l of e^(score - m) and the values weighted by them. A block of keys that raises m scales l
//! and the values down by e^(old m - new m). Blocks are of fixed size, so a row's bits do not depend on other rows or threads.

use crate::convert::convert_row;
use crate::element::{Element, Precision};
use crate::key_values::KeyValues;
use crate::layout::Panel;
use crate::math;
use crate::matrix::{Matrix, MatrixMut};
use crate::memory::Scratch;
use crate::rows::{RowsMutPtr, Source, Target};
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::storage::store;
use crate::tile::{Ahead, Tile};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Panels of keys in a block: 384 keys with 512-bit registers, whose scores for a tile of queries stay in the first-level cache.
const BLOCK_PANELS: usize = 8;
/// Queries of a task: they share the blocks of keys they go through.
const TASK_ROWS: usize = 64;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    Full,
    /// Those at its own position and before.
    Causal,
}

/// `softmax(scale · queries · keysᵀ) · values` for every head of every sequence of a batch.
///
/// `queries` and `out` are `[batch · tokens, heads · head_size]`; sequence `i` attends to `contexts[i]`. Softmax is f32, the
/// products are in the contexts' precision.
///
/// # Panics
/// Shapes do not fit each other, or contexts differ in precision or instruction set.
pub fn attention(queries: Matrix<'_>, contexts: &[&KeyValues], scale: f32, mask: Mask, out: &mut MatrixMut<'_>) {
    let Some(&first) = contexts.first() else { return };
    let KeyValues { isa, precision, heads, head_size, .. } = *first;
    let alike = |other: &KeyValues| {
        (other.isa, other.precision, other.heads, other.head_size) == (isa, precision, heads, head_size)
    };
    assert!(contexts.iter().all(|context| alike(context)), "contexts of one layer");
    assert!(queries.rows.is_multiple_of(contexts.len()), "{} rows of {} sequences", queries.rows, contexts.len());
    assert_eq!(queries.cols, heads * head_size, "query columns");
    assert_eq!((out.rows, out.cols), (queries.rows, queries.cols), "output shape");
    let tokens = queries.rows / contexts.len();
    let (queries, out) = (queries.source(), out.target());
    let blocks = tokens.div_ceil(TASK_ROWS);
    (0..contexts.len() * heads * blocks).into_par_iter().with_max_len(1).for_each(|task| {
        let (sequence, head, block) = (task / blocks / heads, task / blocks % heads, task % blocks);
        let positions = block * TASK_ROWS..tokens.min((block + 1) * TASK_ROWS);
        let rows =
            Rows { context: contexts[sequence], head, positions, first: sequence * tokens, queries, out, scale, mask };
        match precision {
            Precision::F32 => dispatch(isa, Attend::<f32>(rows, std::marker::PhantomData)),
            Precision::Bf16 => dispatch(isa, Attend::<bf16>(rows, std::marker::PhantomData)),
        }
    });
}

/// One task: some queries of one head.
struct Rows<'a> {
    context: &'a KeyValues,
    head: usize,
    /// Positions in the sequence.
    positions: Range<usize>,
    /// The sequence's first row.
    first: usize,
    queries: Source,
    out: Target,
    scale: f32,
    mask: Mask,
}

impl Rows<'_> {
    /// How many keys the query at `position` sees.
    #[inline(always)]
    fn visible(&self, position: usize) -> usize {
        match self.mask {
            Mask::Full => self.context.tokens,
            Mask::Causal => self.context.tokens.min(position + 1),
        }
    }
}

struct Attend<'a, E>(Rows<'a>, std::marker::PhantomData<E>);

/// What a query has gathered so far.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    sum: f32,
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let rows = self.0;
        let context = rows.context;
        let lanes = A::V::LANES;
        let tiles = rows.positions.len().div_ceil(A::MR);
        let depth = context.key_depth();
        let block_keys = BLOCK_PANELS * 3 * lanes;
        let value_columns = context.head_size.next_multiple_of(lanes);

        // Every buffer holds whole tiles: MR rows even where fewer are left, which then repeat the last one.
        let mut queries = Scratch::words(tiles * A::MR * depth);
        let mut scores = Scratch::words(A::MR * block_keys);
        let mut weights = Scratch::words(A::MR * block_keys);
        let mut sums = Scratch::words(tiles * A::MR * value_columns);
        let queries = queries.as_mut_ptr();
        let scores: *mut f32 = scores.as_mut_ptr().cast();
        let weights = weights.as_mut_ptr();
        let sums: *mut f32 = sums.as_mut_ptr().cast();
        let position = |row: usize| rows.positions.end.min(rows.positions.start + row + 1) - 1;
        let mut running = vec![Running { largest: f32::NEG_INFINITY, sum: 0.0 }; tiles * A::MR];

        // SAFETY: queries and output have the rows; buffers have the sizes given above; each task writes its own rows of its
        // own head.
        unsafe {
            for row in 0..tiles * A::MR {
                let from = rows.queries.row(rows.first + position(row)).add(rows.head * context.head_size);
                convert_row::<A>(from, context.head_size, E::PRECISION, queries.add(row * depth));
            }
            for panels in context.key_panels.chunks(BLOCK_PANELS) {
                let start = panels[0].column;
                let block_columns: usize = panels.iter().map(|panel| panel.vectors * lanes).sum();
                for tile in 0..tiles {
                    let seen = rows.visible(position(tile * A::MR + A::MR - 1));
                    if seen <= start {
                        continue;
                    }
                    let tile_rows = tile * A::MR..(tile + 1) * A::MR;
                    let visible = |r: usize| rows.visible(position(tile * A::MR + r)).saturating_sub(start);
                    let keys = |panel: Panel| context.key_words(rows.head, panel);
                    score::<A, E>(panels, keys, queries.add(tile * A::MR * depth), depth, scores);
                    let tile_sums = sums.add(tile * A::MR * value_columns);
                    soften::<A, E>(
                        panels,
                        scores,
                        rows.scale,
                        visible,
                        weights,
                        &mut running[tile_rows],
                        |r, factor| {
                            rescale::<A>(&context.value_panels, r, factor, tile_sums);
                        },
                    );
                    let keys = block_columns.min(context.tokens - start);
                    for &panel in &context.value_panels {
                        let words = keys.div_ceil(E::PER_WORD);
                        let pitch = block_keys / E::PER_WORD;
                        let values = context.value_words(rows.head, panel, start / E::PER_WORD);
                        let sums = tile_sums.add(A::MR * panel.column);
                        product::<A, E>(panel, weights, pitch, words, values, sums, start == 0);
                    }
                }
            }
            for (row, running) in running.iter().enumerate().take(rows.positions.len()) {
                let to = rows.out.row(rows.first + position(row));
                let tile_sums = sums.add(row / A::MR * A::MR * value_columns);
                for panel in &context.value_panels {
                    for v in 0..panel.vectors {
                        let column = panel.column + v * lanes;
                        let count = lanes.min(context.head_size - column);
                        let at = A::MR * panel.column + (row % A::MR * panel.vectors + v) * lanes;
                        let value = A::V::load(tile_sums.add(at)).div(A::V::splat(running.sum));
                        let column = rows.head * context.head_size + column;
                        match to {
                            RowsMutPtr::F32(to) => store::<A, f32>(value, to.add(column), count),
                            RowsMutPtr::Bf16(to) => store::<A, u16>(value, to.add(column), count),
                        }
                    }
                }
            }
        }
    }
}

/// One product of a tile: `MR` rows `pitch` words apart with a panel.
///
/// # Safety
/// As [`crate::tile::multiply`], for one segment of `words`.
#[inline(always)]
unsafe fn product<A: Arch, E: Element>(
    panel: Panel,
    rows: *const u32,
    pitch: usize,
    words: usize,
    columns: *const f32,
    sums: *mut f32,
    fresh: bool,
) {
    /// No tile is taller.
    const MOST_ROWS: usize = 8;
    let mut pointers = [std::ptr::null::<f32>(); MOST_ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        for (r, pointer) in pointers.iter_mut().enumerate().take(A::MR) {
            *pointer = rows.add(r * pitch).cast();
        }
        let tile = Tile {
            segments: &[words],
            rows: pointers.as_ptr(),
            panel: columns,
            sums,
            fresh,
            ahead: Ahead::nothing(columns),
        };
        A::multiply::<E>(panel.vectors, tile);
    }
}

/// Scores of a tile of queries with a block of keys: for each panel, `MR` rows of its columns.
///
/// # Safety
/// `queries` are `MR` rows of `depth` words; `scores` has room for the block.
#[inline(always)]
unsafe fn score<A: Arch, E: Element>(
    panels: &[Panel],
    keys: impl Fn(Panel) -> *const f32,
    queries: *const u32,
    depth: usize,
    scores: *mut f32,
) {
    let mut to = scores;
    for &panel in panels {
        // SAFETY: the caller's promise.
        unsafe {
            product::<A, E>(panel, queries, depth, depth, keys(panel), to, true);
            to = to.add(A::MR * panel.vectors * A::V::LANES);
        }
    }
}

/// Turns a block of scores into weights e^(scale · score - m), as rows of a left operand, and brings `running` up to date;
/// `rescale(r, factor)` scales down what row `r` has summed so far. Row `r` sees the first `visible(r)` keys of the block.
///
/// Scores that bf16 weights are made of are measured in powers of two, and their series ends where bf16 does.
///
/// # Safety
/// `scores` are what [`score`] wrote; `weights` has room for `MR` rows of a block of words.
#[inline(always)]
unsafe fn soften<A: Arch, E: Element>(
    panels: &[Panel],
    scores: *const f32,
    scale: f32,
    visible: impl Fn(usize) -> usize,
    weights: *mut u32,
    running: &mut [Running],
    rescale: impl Fn(usize, f32),
) {
    let lanes = A::V::LANES;
    let block_keys = BLOCK_PANELS * 3 * lanes;
    let scale = match E::PRECISION {
        Precision::F32 => scale,
        Precision::Bf16 => scale * std::f32::consts::LOG2_E,
    };
    // SAFETY: sixteen values, no register has more.
    let index = unsafe { A::V::load(LANE_INDEX.as_ptr()) };
    for (r, running) in running.iter_mut().enumerate() {
        let visible = visible(r);
        let mut largest = A::V::splat(f32::NEG_INFINITY);
        // SAFETY: the block's scores; only registers of row `r` are read.
        unsafe {
            registers::<A>(panels, scores, r, |key, score| {
                let score = if visible < key + lanes {
                    let limit = A::V::splat(visible as f32 - key as f32);
                    index.select_less(limit, score, A::V::splat(f32::NEG_INFINITY))
                } else {
                    score
                };
                largest = largest.max(score);
            });
        }
        let largest = running.largest.max(largest.largest() * scale);
        let (scales, minus_largest) = (A::V::splat(scale), A::V::splat(-largest));
        let mut sum = A::V::splat(0.0);
        // SAFETY: as above; row `r` of the weights starts a block of keys after the one before.
        unsafe {
            registers::<A>(panels, scores, r, |key, score| {
                let distance = score.mul_add(scales, minus_largest);
                let mut weight = match E::PRECISION {
                    Precision::F32 => math::exp(distance),
                    Precision::Bf16 => math::exp2_bf16(distance),
                };
                if visible < key + lanes {
                    weight = index.select_less(A::V::splat(visible as f32 - key as f32), weight, A::V::splat(0.0));
                }
                sum = sum.add(weight);
                match E::PRECISION {
                    Precision::F32 => weight.store(weights.add(r * block_keys + key).cast()),
                    Precision::Bf16 => A::store_bf16(weight, weights.cast::<u16>().add(r * block_keys + key)),
                }
            });
        }
        if largest > running.largest {
            let distance = running.largest - largest;
            let factor = match E::PRECISION {
                Precision::F32 => distance.exp(),
                Precision::Bf16 => distance.exp2(),
            };
            rescale(r, factor);
            running.sum *= factor;
            running.largest = largest;
        }
        running.sum += sum.sum();
    }
}

/// Hands each register of row `r` of a block of scores to `each`, with the number of its first key in the block.
///
/// # Safety
/// `scores` are what [`score`] wrote.
#[inline(always)]
unsafe fn registers<A: Arch>(panels: &[Panel], mut scores: *const f32, r: usize, mut each: impl FnMut(usize, A::V)) {
    let mut key = 0;
    for panel in panels {
        for v in 0..panel.vectors {
            // SAFETY: a register of row `r` of this panel.
            each(key, unsafe { A::V::load(scores.add((r * panel.vectors + v) * A::V::LANES)) });
            key += A::V::LANES;
        }
        // SAFETY: the next panel's scores follow.
        scores = unsafe { scores.add(A::MR * panel.vectors * A::V::LANES) };
    }
}

/// 0, 1, 2, …: the number of each lane.
const LANE_INDEX: [f32; 16] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Scales row `r` of a tile's sums.
///
/// # Safety
/// `sums` are a tile's, panel by panel.
#[inline(always)]
unsafe fn rescale<A: Arch>(panels: &[Panel], r: usize, factor: f32, sums: *mut f32) {
    let lanes = A::V::LANES;
    let factor = A::V::splat(factor);
    for panel in panels {
        for v in 0..panel.vectors {
            // SAFETY: a register of row `r` of this panel.
            unsafe {
                let at = sums.add(A::MR * panel.column + (r * panel.vectors + v) * lanes);
                A::V::load(at).mul(factor).store(at);
            }
        }
    }
}
