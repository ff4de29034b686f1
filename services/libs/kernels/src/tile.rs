//! The micro-kernel: a tile of `MR` rows by up to three registers of columns, summed in registers over the reduction.

use crate::element::Element;
use crate::memory::{LINE_WORDS, prefetch};
use crate::simd::{Arch, Vector};

/// What one tile reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Words of each segment of the reduction.
    pub(crate) segments: &'a [usize],
    /// `segments × MR` pointers to the rows' words.
    pub(crate) rows: *const *const f32,
    /// The panel's words: for every word of the reduction, one for each column.
    pub(crate) panel: *const f32,
    /// `MR × columns` sums.
    pub(crate) sums: *mut f32,
    /// Whether the sums start at zero, not at what `sums` holds.
    pub(crate) fresh: bool,
    /// What will be read next, to be brought into the second-level cache meanwhile.
    pub(crate) ahead: Ahead,
}

/// Memory asked for step by step, so that requests never queue: a word of the reduction takes longer than a cache line.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    start: *const f32,
    /// Values to go on by with each word of the reduction.
    pace: usize,
}

impl Ahead {
    /// Nothing: `panel`, which is there already.
    pub(crate) fn nothing(panel: *const f32) -> Ahead {
        Ahead { start: panel, pace: 0 }
    }

    /// The `turn`th part of `turns` of what follows the `len` values at `panel`, which take `words` steps of the reduction each time. What
    /// comes next in memory comes next in time.
    pub(crate) fn part(panel: *const f32, len: usize, words: usize, turn: usize, turns: usize) -> Ahead {
        let pace = len.div_ceil(words.max(1) * turns).min(LINE_WORDS);
        Ahead { start: panel.wrapping_add(len + turn * pace * words), pace }
    }
}

/// `sums[r][c] (+)= Σ row[r] · panel[c]`, each sum one chain of additions in the order of the reduction.
///
/// That order is the whole of the arithmetic: how many rows there are, where chunks end and which thread works change
/// where a sum waits, not what it is.
///
/// # Safety
/// Every pointer of `tile` is valid for what its field says, with `MR` rows and `NV · LANES` columns.
#[inline(always)]
pub(crate) unsafe fn multiply<A: Arch, E: Element, const MR: usize, const NV: usize>(tile: Tile<'_>) {
    let lanes = A::V::LANES;
    let mut sums = [[A::V::splat(0.0); NV]; MR];
    // SAFETY: the caller's promise about `sums`, `rows` and `panel`.
    unsafe {
        if !tile.fresh {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = A::V::load(tile.sums.add((r * NV + v) * lanes));
                }
            }
        }
        let mut panel = tile.panel;
        let mut rows = tile.rows;
        let Ahead { start: mut ahead, pace } = tile.ahead;
        for &words in tile.segments {
            let pointers: [*const f32; MR] = std::array::from_fn(|r| *rows.add(r));
            for word in 0..words {
                prefetch(ahead);
                ahead = ahead.wrapping_add(pace);
                let columns: [A::V; NV] = std::array::from_fn(|v| A::V::load(panel.add(v * lanes)));
                for (row, pointer) in sums.iter_mut().zip(pointers) {
                    let value = A::V::splat(pointer.add(word).read_unaligned());
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = E::dot::<A>(*sum, value, column);
                    }
                }
                panel = panel.add(NV * lanes);
            }
            rows = rows.add(MR);
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.store(tile.sums.add((r * NV + v) * lanes));
            }
        }
    }
}

/// [`multiply`] for a panel of `vectors` registers.
///
/// # Safety
/// As [`multiply`]; `vectors` is 1, 2 or 3.
#[inline(always)]
pub(crate) unsafe fn multiply_panel<A: Arch, E: Element, const MR: usize>(vectors: usize, tile: Tile<'_>) {
    // SAFETY: passed on.
    unsafe {
        match vectors {
            1 => multiply::<A, E, MR, 1>(tile),
            2 => multiply::<A, E, MR, 2>(tile),
            _ => multiply::<A, E, MR, 3>(tile),
        }
    }
}
