//! Attention that never holds the matrix of scores: online softmax over blocks of keys.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), as in FlashAttention: a query keeps the largest
//! score m so far, the sum l of e^(score - m) and the values weighted by them. Keys that raise m scale l and the values down by
//! e^(old m - new m). Here m follows only where it would be exceeded by a lot, since any m near the largest score serves
//! ([`weights::HEADROOM`]), and e^x is taken as 2^(x · log₂ e).
//!
//! Everything is transposed: scores are keys · queriesᵀ and the result is valuesᵀ · weightsᵀ, so that a query is a lane of a
//! register in all of it. A query's bits depend on its keys alone, not on its neighbours or on threads.

mod queries;
pub(crate) mod weights;

use crate::element::{Element, Precision};
use crate::key_values::KeyValues;
use crate::layout::{Panel, lanes, panels};
use crate::matrix::{Matrix, MatrixMut};
use crate::memory::Scratch;
use crate::rows::{Source, Target};
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::tile::{Ahead, Tile};
use half::bf16;
use queries::Queries;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;
use weights::Scores;

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
/// Shapes do not fit each other, contexts differ in precision or instruction set, or `scale` is not above zero.
pub fn attention(queries: Matrix<'_>, contexts: &[&KeyValues], scale: f32, mask: Mask, out: &mut MatrixMut<'_>) {
    let Some(&first) = contexts.first() else { return };
    let KeyValues { isa, precision, .. } = *first;
    let (heads, head_size) = (first.shape.heads, first.shape.head_size);
    let alike = |other: &KeyValues| {
        (other.isa, other.precision, other.shape.heads, other.shape.head_size) == (isa, precision, heads, head_size)
    };
    assert!(contexts.iter().all(|context| alike(context)), "contexts of one layer");
    assert!(queries.rows.is_multiple_of(contexts.len()), "{} rows of {} sequences", queries.rows, contexts.len());
    assert_eq!(queries.cols, heads * head_size, "query columns");
    assert_eq!((out.rows, out.cols), (queries.rows, queries.cols), "output shape");
    assert!(scale > 0.0, "a scale of {scale}");
    let tokens = queries.rows / contexts.len();
    let (queries, out) = (queries.source(), out.target());
    let panels = panels(tokens, lanes(isa));
    (0..contexts.len() * heads * panels.len()).into_par_iter().with_max_len(1).for_each(|task| {
        let (sequence, head, panel) = (task / panels.len() / heads, task / panels.len() % heads, task % panels.len());
        let panel = panels[panel];
        let count = (panel.vectors * lanes(isa)).min(tokens - panel.column);
        let first = sequence * tokens;
        let task = Task { context: contexts[sequence], head, panel, count, first, queries, out, scale, mask };
        match precision {
            Precision::F32 => dispatch(isa, Attend::<f32>(task, PhantomData)),
            Precision::Bf16 => dispatch(isa, Attend::<bf16>(task, PhantomData)),
        }
    });
}

/// One task: a panel of queries of one head.
struct Task<'a> {
    context: &'a KeyValues,
    head: usize,
    /// Its columns are positions in the sequence.
    panel: Panel,
    /// Queries in it; further lanes repeat the last one.
    count: usize,
    /// The sequence's first row.
    first: usize,
    queries: Source,
    out: Target,
    scale: f32,
    mask: Mask,
}

impl Task<'_> {
    /// The position in the sequence of the query in `lane`.
    #[inline(always)]
    fn position(&self, lane: usize) -> usize {
        self.panel.column + lane.min(self.count - 1)
    }

    /// How many keys the query in `lane` sees.
    #[inline(always)]
    fn visible(&self, lane: usize) -> usize {
        match self.mask {
            Mask::Full => self.context.shape.tokens,
            Mask::Causal => self.context.shape.tokens.min(self.position(lane) + 1),
        }
    }
}

struct Attend<'a, E>(Task<'a>, PhantomData<E>);

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let task = self.0;
        let shape = task.context.shape;
        let vectors = task.panel.vectors;
        let width = vectors * A::V::LANES;
        let mut weights = Scratch::words(shape.block_keys() / E::PER_WORD * width);
        let mut values = Scratch::words(shape.value_rows().next_multiple_of(A::V::LANES) * width);
        let (weights, values): (*mut f32, *mut f32) = (weights.as_mut_ptr().cast(), values.as_mut_ptr().cast());
        let mut queries = Queries::gather::<A, E>(&task);
        let (fewest, most) = (task.visible(0), task.visible(task.count - 1));
        // Whether nothing has been added to `values` yet.
        let mut fresh = true;
        for block in (0..most).step_by(shape.block_keys()) {
            let end = most.min(block + shape.block_keys());
            // Keys of this block up to here have gone into `values`.
            let mut added = block;
            for key in (block..end).step_by(A::MR) {
                let mut scores = Scores {
                    keys: task.context.keys(task.head, key),
                    weights: weights.wrapping_add((key - block) / E::PER_WORD * width),
                    ..queries.scores(task.scale)
                };
                if key + A::MR > fewest {
                    scores.seen = queries.see(|lane| task.visible(lane).saturating_sub(key));
                }
                // SAFETY: the context has a tile of keys here, buffers have the sizes given above.
                unsafe {
                    if !A::weigh::<E>(vectors, &scores) {
                        add::<A, E>(&task, block, added..key, weights, values, fresh);
                        fresh &= added == key;
                        added = key;
                        queries.raise::<A>(&scores, values, if fresh { 0 } else { shape.value_rows() });
                        A::weigh::<E>(vectors, &Scores { ceilings: std::ptr::null(), ..scores });
                    }
                }
            }
            let end = end.next_multiple_of(A::MR);
            // SAFETY: as above.
            unsafe { add::<A, E>(&task, block, added..end, weights, values, fresh) };
            fresh = false;
            queries.end_block::<A>();
        }
        // SAFETY: `values` holds the sums of every lane; the task alone writes its queries' part of the output.
        unsafe { queries.scatter::<A>(&task, values) };
    }
}

/// `values (+)= valuesᵀ · weightsᵀ` over some keys of a block.
///
/// # Safety
/// `weights` are a block's, those of `keys` written; `values` has `value_rows` rows of the panel's width, all written unless `fresh`.
#[inline(always)]
unsafe fn add<A: Arch, E: Element>(
    task: &Task<'_>,
    block: usize,
    keys: Range<usize>,
    weights: *mut f32,
    values: *mut f32,
    fresh: bool,
) {
    /// No tile is taller.
    const MOST_ROWS: usize = 8;
    if keys.is_empty() {
        return;
    }
    let shape = task.context.shape;
    let width = task.panel.vectors * A::V::LANES;
    let pitch = shape.words_of_block(block);
    let (first, words) = ((keys.start - block) / E::PER_WORD, keys.len() / E::PER_WORD);
    let from = task.context.values(task.head, block);
    for row in (0..shape.value_rows()).step_by(A::MR) {
        // SAFETY: the caller's promise; the block has `value_rows` rows of `pitch` words, of which these keys' are `words`.
        unsafe {
            let rows: [*const f32; MOST_ROWS] = std::array::from_fn(|r| from.wrapping_add((row + r) * pitch + first));
            let panel = weights.add(first * width).cast_const();
            let tile = Tile {
                segments: &[words],
                rows: rows.as_ptr(),
                panel,
                sums: values.add(row * width),
                fresh,
                ahead: Ahead::nothing(panel),
            };
            A::multiply::<E>(task.panel.vectors, tile);
        }
    }
}
