//! A panel of queries: what each has gathered so far, and the way in and out between rows and lanes.

use super::Task;
use super::weights::{HEADROOM, Scores};
use crate::convert::convert_row;
use crate::element::Element;
use crate::math;
use crate::memory::Scratch;
use crate::rows::RowsMutPtr;
use crate::simd::{Arch, Vector};
use crate::storage::store;

/// No panel is wider.
const MOST_LANES: usize = 48;
type Lanes = [f32; MOST_LANES];

/// Queries side by side, and their running softmax.
pub(super) struct Queries {
    /// Registers across.
    vectors: usize,
    depth: usize,
    /// For every word of a query, one of each.
    words: Scratch,
    /// As [`Scores`] has it.
    largest: Lanes,
    ceilings: Lanes,
    tops: Lanes,
    seen: Lanes,
    /// Sums of weights: of the blocks before and of this one, so that rounding does not add up over many keys.
    sums: Lanes,
    block_sums: Lanes,
}

impl Queries {
    /// Reads the task's queries.
    #[inline(always)]
    pub(super) fn gather<A: Arch, E: Element>(task: &Task<'_>) -> Queries {
        let shape = task.context.shape;
        let lanes = A::V::LANES;
        let (depth, width) = (shape.depth(), task.panel.vectors * lanes);
        let pitch = depth.next_multiple_of(lanes);
        let mut rows = Scratch::words(width * pitch);
        let mut words = Scratch::words(pitch * width);
        let rows = rows.as_mut_ptr();
        let to: *mut f32 = words.as_mut_ptr().cast();
        // SAFETY: the queries have the rows with the head's columns; both scratches have whole blocks.
        unsafe {
            for lane in 0..width {
                let from = task.queries.row(task.first + task.position(lane)).add(task.head * shape.head_size);
                convert_row::<A>(from, shape.head_size, E::PRECISION, rows.add(lane * pitch));
            }
            for lane in (0..width).step_by(lanes) {
                for word in (0..depth).step_by(lanes) {
                    let from = rows.add(lane * pitch + word).cast::<f32>();
                    A::transpose(from, pitch, to.add(word * width + lane), width);
                }
            }
        }
        let lowest = [f32::NEG_INFINITY; MOST_LANES];
        let zero = [0.0; MOST_LANES];
        let vectors = task.panel.vectors;
        Queries {
            vectors,
            depth,
            words,
            largest: lowest,
            ceilings: lowest,
            tops: zero,
            seen: zero,
            sums: zero,
            block_sums: zero,
        }
    }

    /// What a tile reads and writes here; keys and weights are the caller's.
    #[inline(always)]
    pub(super) fn scores(&mut self, scale: f32) -> Scores {
        Scores {
            keys: std::ptr::null(),
            depth: self.depth,
            queries: self.words.as_mut_ptr().cast::<f32>().cast_const(),
            scale: scale * std::f32::consts::LOG2_E,
            largest: self.largest.as_ptr(),
            ceilings: self.ceilings.as_ptr(),
            seen: std::ptr::null(),
            tops: self.tops.as_mut_ptr(),
            sums: self.block_sums.as_mut_ptr(),
            weights: std::ptr::null_mut(),
        }
    }

    /// Notes how many keys each query sees from a tile's first on.
    #[inline(always)]
    pub(super) fn see(&mut self, seen: impl Fn(usize) -> usize) -> *const f32 {
        for (lane, to) in self.seen.iter_mut().enumerate() {
            *to = seen(lane) as f32;
        }
        self.seen.as_ptr()
    }

    /// Lifts the largest scores that the tops exceed by the headroom to the tops, and scales down what was summed against the old ones:
    /// the sums of weights and the first `rows` rows of `values`.
    ///
    /// # Safety
    /// `values` has the rows.
    #[inline(always)]
    pub(super) unsafe fn raise<A: Arch>(&mut self, scores: &Scores, values: *mut f32, rows: usize) {
        let lanes = A::V::LANES;
        for v in 0..self.vectors {
            let at = v * lanes;
            // SAFETY: registers of a panel's lanes; the caller's promise about `values`.
            unsafe {
                let (old, top) = (A::V::load(self.largest.as_ptr().add(at)), A::V::load(self.tops.as_ptr().add(at)));
                let ceiling = A::V::load(self.ceilings.as_ptr().add(at));
                let scale = A::V::splat(scores.scale);
                let new = ceiling.select_less(top, top.mul(scale), old);
                let factor = ceiling.select_less(top, math::exp2(old.sub(new)), A::V::splat(1.0));
                new.store(self.largest.as_mut_ptr().add(at));
                new.add(A::V::splat(HEADROOM)).div(scale).store(self.ceilings.as_mut_ptr().add(at));
                for sums in [&mut self.sums, &mut self.block_sums] {
                    let sums = sums.as_mut_ptr().add(at);
                    A::V::load(sums).mul(factor).store(sums);
                }
                for row in 0..rows {
                    let value = values.add(row * self.vectors * lanes + at);
                    A::V::load(value).mul(factor).store(value);
                }
            }
        }
    }

    /// Takes the block's sums over.
    #[inline(always)]
    pub(super) fn end_block<A: Arch>(&mut self) {
        for (sum, block) in self.sums.iter_mut().zip(&mut self.block_sums) {
            *sum += std::mem::take(block);
        }
    }

    /// Divides `values` by the sums and writes them to the task's rows.
    ///
    /// # Safety
    /// `values` holds `head_size` rows of the panel's width, in memory for whole registers of them; the output has the task's rows, which nobody else writes.
    #[inline(always)]
    pub(super) unsafe fn scatter<A: Arch>(&self, task: &Task<'_>, values: *mut f32) {
        let lanes = A::V::LANES;
        let (size, width) = (task.context.shape.head_size, self.vectors * lanes);
        let pitch = size.next_multiple_of(lanes);
        let mut rows = Scratch::words(width * pitch);
        let rows: *mut f32 = rows.as_mut_ptr().cast();
        // SAFETY: the caller's promise; the scratch has whole blocks.
        unsafe {
            for v in 0..self.vectors {
                let one_by_sum = A::V::splat(1.0).div(A::V::load(self.sums.as_ptr().add(v * lanes)));
                for i in 0..size {
                    let value = values.add(i * width + v * lanes);
                    A::V::load(value).mul(one_by_sum).store(value);
                }
                for i in (0..size).step_by(lanes) {
                    A::transpose(values.add(i * width + v * lanes), width, rows.add(v * lanes * pitch + i), pitch);
                }
            }
            for lane in 0..task.count {
                let to = task.out.row(task.first + task.position(lane));
                for at in (0..size).step_by(lanes) {
                    let (value, count) = (A::V::load(rows.add(lane * pitch + at)), lanes.min(size - at));
                    let column = task.head * size + at;
                    match to {
                        RowsMutPtr::F32(to) => store::<A, f32>(value, to.add(column), count),
                        RowsMutPtr::Bf16(to) => store::<A, u16>(value, to.add(column), count),
                    }
                }
            }
        }
    }
}
