//! Layer normalisation: each row on its own, in registers and a cached row.

use crate::isa::Isa;
use crate::matrix::{Matrix, MatrixMut};
use crate::rows::{RowsMutPtr, RowsPtr};
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::storage::{Storage, load, store};
use rayon::prelude::*;

/// The parameters of a layer normalisation.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// Added to the variance.
    pub eps: f32,
    /// One factor a column.
    pub weight: &'a [f32],
    /// One summand a column.
    pub bias: &'a [f32],
}

/// `out = (input - mean) / √(variance + eps) · weight + bias`, mean and variance those of a row (Ba, Kiros and Hinton 2016), the
/// variance about the mean in a pass of its own.
///
/// # Panics
/// Shapes do not fit each other.
pub fn layer_norm(isa: Isa, input: Matrix<'_>, norm: &LayerNorm<'_>, out: &mut MatrixMut<'_>) {
    assert_eq!((out.rows, out.cols), (input.rows, input.cols), "output shape");
    assert_eq!((norm.weight.len(), norm.bias.len()), (input.cols, input.cols), "weight and bias");
    let (source, target, cols) = (input.source(), out.target(), input.cols);
    (0..input.rows).into_par_iter().with_min_len(1 + (1 << 13) / cols.max(1)).for_each(|row| {
        // SAFETY: the row exists in both, and this task alone writes it.
        unsafe { dispatch(isa, Row { from: source.row(row), to: target.row(row), norm }) }
    });
}

struct Row<'a> {
    from: RowsPtr,
    to: RowsMutPtr,
    norm: &'a LayerNorm<'a>,
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        // SAFETY: `layer_norm` hands out rows of as many values as there are weights.
        unsafe {
            match (self.from, self.to) {
                (RowsPtr::F32(from), RowsMutPtr::F32(to)) => normalise::<A, f32, f32>(from, to, self.norm),
                (RowsPtr::F32(from), RowsMutPtr::Bf16(to)) => normalise::<A, f32, u16>(from, to, self.norm),
                (RowsPtr::Bf16(from), RowsMutPtr::F32(to)) => normalise::<A, u16, f32>(from, to, self.norm),
                (RowsPtr::Bf16(from), RowsMutPtr::Bf16(to)) => normalise::<A, u16, u16>(from, to, self.norm),
            }
        }
    }
}

/// # Safety
/// `from` has and `to` has room for as many values as `norm` has weights.
#[inline(always)]
unsafe fn normalise<A: Arch, F: Storage, T: Storage>(from: *const F, to: *mut T, norm: &LayerNorm<'_>) {
    let (len, lanes) = (norm.weight.len(), A::V::LANES);
    let whole = len - len % lanes;
    // SAFETY: `at + count ≤ len` throughout.
    unsafe {
        let mut sum = A::V::splat(0.0);
        for at in (0..whole).step_by(lanes) {
            sum = sum.add(load::<A, F>(from.add(at), lanes));
        }
        // Lanes past the end load as zero: right for the sum, to be left out of the squares.
        let rest = load::<A, F>(from.add(whole), len - whole);
        let mean = A::V::splat(sum.add(rest).sum() / len as f32);
        let mut squares = A::V::splat(0.0);
        for at in (0..whole).step_by(lanes) {
            let value = load::<A, F>(from.add(at), lanes).sub(mean);
            squares = value.mul_add(value, squares);
        }
        let mut squares = squares.sum();
        let mut tail = [0.0; 16];
        rest.sub(mean).store(tail.as_mut_ptr());
        squares += tail[..len - whole].iter().map(|value| value * value).sum::<f32>();
        let inverse = A::V::splat(1.0 / (squares / len as f32 + norm.eps).sqrt());
        for at in (0..len).step_by(lanes) {
            let count = lanes.min(len - at);
            let weight = load::<A, f32>(norm.weight.as_ptr().add(at), count);
            let bias = load::<A, f32>(norm.bias.as_ptr().add(at), count);
            let value = load::<A, F>(from.add(at), count).sub(mean).mul(inverse);
            store::<A, T>(value.mul_add(weight, bias), to.add(at), count);
        }
    }
}
