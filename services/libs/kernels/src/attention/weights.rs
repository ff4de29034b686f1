//! Scores of a tile of keys with a panel of queries, turned into weights before they leave the registers.
//!
//! Keys are the rows of the tile and queries its columns. So what softmax asks of a query, its largest score and the sum of its
//! weights, is taken lane by lane, and weights come out as the product with the values wants them: a right operand whose
//! reduction runs over keys.

use crate::element::{Element, Precision};
use crate::math;
use crate::simd::{Arch, Vector};

/// How far, in powers of two, a score may rise above what its query counts as the largest before that is corrected. Weights are
/// at most 2^8 then, which costs f32 and bf16 no digit, and after the first keys of a query corrections are rare.
pub(crate) const HEADROOM: f32 = 8.0;

/// What one tile reads and writes. Per query are `vectors · LANES` values.
#[derive(Clone, Copy)]
pub(crate) struct Scores {
    /// `MR` rows of `depth` words.
    pub(crate) keys: *const f32,
    pub(crate) depth: usize,
    /// For every word of the reduction, one of each query.
    pub(crate) queries: *const f32,
    /// From scores to powers of two: the softmax's scale · log₂ e.
    pub(crate) scale: f32,
    /// Per query, the power of two that its weights are measured against.
    pub(crate) largest: *const f32,
    /// Per query, the largest score that leaves `largest` as it is; null where every score does.
    pub(crate) ceilings: *const f32,
    /// Per query, how many keys it sees from the tile's first on; null where every one sees all.
    pub(crate) seen: *const f32,
    /// Per query, the tile's largest score: written where it is above a ceiling.
    pub(crate) tops: *mut f32,
    /// Per query, the sum of its weights, added to.
    pub(crate) sums: *mut f32,
    /// The weights: for every word of keys, one of each query.
    pub(crate) weights: *mut f32,
}

/// Writes the weights 2^(scale · score - largest) of `MR` keys and adds them to the sums; or, where a score is above its query's ceiling,
/// writes the tops instead and returns false.
///
/// # Safety
/// Every pointer of `scores` is valid for what its field says.
#[inline(always)]
pub(crate) unsafe fn weigh<A: Arch, E: Element, const MR: usize, const NV: usize>(scores: &Scores) -> bool {
    let lanes = A::V::LANES;
    let per_query = |from: *const f32| -> [A::V; NV] {
        // SAFETY: the caller's promise; per query are NV registers.
        std::array::from_fn(|v| unsafe { A::V::load(from.add(v * lanes)) })
    };
    let mut tile = [[A::V::splat(0.0); NV]; MR];
    // SAFETY: the caller's promise about `keys` and `queries`.
    unsafe {
        let mut queries = scores.queries;
        for word in 0..scores.depth {
            let columns: [A::V; NV] = std::array::from_fn(|v| A::V::load(queries.add(v * lanes)));
            for (r, row) in tile.iter_mut().enumerate() {
                let key = A::V::splat(scores.keys.add(r * scores.depth + word).read_unaligned());
                for (score, column) in row.iter_mut().zip(columns) {
                    *score = E::dot::<A>(*score, key, column);
                }
            }
            queries = queries.add(NV * lanes);
        }
    }
    if !scores.seen.is_null() {
        let seen = per_query(scores.seen);
        for (r, row) in tile.iter_mut().enumerate() {
            for (score, seen) in row.iter_mut().zip(seen) {
                *score = A::V::splat(r as f32).select_less(seen, *score, A::V::splat(f32::NEG_INFINITY));
            }
        }
    }
    if !scores.ceilings.is_null() {
        let ceilings = per_query(scores.ceilings);
        let mut tops = tile[0];
        for row in &tile[1..] {
            for (top, score) in tops.iter_mut().zip(row) {
                *top = top.max(*score);
            }
        }
        if ceilings.iter().zip(&tops).any(|(ceiling, top)| ceiling.any_less(*top)) {
            for (v, top) in tops.iter().enumerate() {
                // SAFETY: the caller's promise about `tops`.
                unsafe { top.store(scores.tops.add(v * lanes)) };
            }
            return false;
        }
    }
    let scale = A::V::splat(scores.scale);
    for (v, largest) in per_query(scores.largest).into_iter().enumerate() {
        let minus_largest = A::V::splat(0.0).sub(largest);
        // SAFETY: the caller's promise about `sums` and `weights`.
        unsafe {
            let weight = |score: A::V| {
                let power = score.mul_add(scale, minus_largest);
                match E::PRECISION {
                    Precision::F32 => math::exp2(power),
                    Precision::Bf16 => math::exp2_bf16(power),
                }
            };
            let mut sum = A::V::load(scores.sums.add(v * lanes));
            for pair in 0..MR / 2 {
                let (first, second) = (weight(tile[2 * pair][v]), weight(tile[2 * pair + 1][v]));
                sum = sum.add(first).add(second);
                match E::PRECISION {
                    Precision::F32 => {
                        first.store(scores.weights.add((2 * pair * NV + v) * lanes));
                        second.store(scores.weights.add(((2 * pair + 1) * NV + v) * lanes));
                    }
                    Precision::Bf16 => {
                        A::pair_bf16(first, second).store(scores.weights.add((pair * NV + v) * lanes));
                    }
                }
            }
            sum.store(scores.sums.add(v * lanes));
        }
    }
    true
}

/// [`weigh`] for a panel of `vectors` registers of queries.
///
/// # Safety
/// As [`weigh`]; `vectors` is 1, 2 or 3.
#[inline(always)]
pub(crate) unsafe fn weigh_panel<A: Arch, E: Element, const MR: usize>(vectors: usize, scores: &Scores) -> bool {
    // SAFETY: passed on.
    unsafe {
        match vectors {
            1 => weigh::<A, E, MR, 1>(scores),
            2 => weigh::<A, E, MR, 2>(scores),
            _ => weigh::<A, E, MR, 3>(scores),
        }
    }
}
