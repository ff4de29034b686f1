//! Conversion between f32 and bf16 (round to nearest, ties to even).

use crate::element::Precision;
use crate::isa::Isa;
use crate::matrix::{Matrix, MatrixMut};
use crate::rows::{RowsMutPtr, RowsPtr};
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::storage::{Storage, load, store};
use rayon::prelude::*;

/// Copies `from` into `to`, converting where the precisions differ.
///
/// # Panics
/// The shapes differ.
pub fn convert(isa: Isa, from: Matrix<'_>, to: &mut MatrixMut<'_>) {
    assert_eq!((from.rows, from.cols), (to.rows, to.cols), "shapes");
    let (source, target, cols) = (from.source(), to.target(), from.cols);
    (0..from.rows).into_par_iter().with_min_len(1 + (1 << 14) / cols.max(1)).for_each(|row| {
        // SAFETY: the row exists in both, and this task alone writes it.
        unsafe {
            dispatch(isa, ConvertRow { from: source.row(row), to: target.row(row), cols });
        }
    });
}

struct ConvertRow {
    from: RowsPtr,
    to: RowsMutPtr,
    cols: usize,
}

impl Kernel for ConvertRow {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        // SAFETY: `convert` hands out rows of `cols` values.
        unsafe {
            match (self.from, self.to) {
                (RowsPtr::F32(from), RowsMutPtr::F32(to)) => copy::<A, f32, f32>(from, to, self.cols),
                (RowsPtr::F32(from), RowsMutPtr::Bf16(to)) => copy::<A, f32, u16>(from, to, self.cols),
                (RowsPtr::Bf16(from), RowsMutPtr::F32(to)) => copy::<A, u16, f32>(from, to, self.cols),
                (RowsPtr::Bf16(from), RowsMutPtr::Bf16(to)) => copy::<A, u16, u16>(from, to, self.cols),
            }
        }
    }
}

/// Copies `len` values, a register at a time.
///
/// # Safety
/// `from` has and `to` has room for `len` values.
#[inline(always)]
unsafe fn copy<A: Arch, F: Storage, T: Storage>(from: *const F, to: *mut T, len: usize) {
    let lanes = A::V::LANES;
    let mut at = 0;
    while at < len {
        let count = lanes.min(len - at);
        // SAFETY: `at + count ≤ len`.
        unsafe { store::<A, T>(load::<A, F>(from.add(at), count), to.add(at), count) };
        at += lanes;
    }
}

/// Writes a row as the words of `precision`, the last word filled up with zeros.
///
/// # Safety
/// `from` has `len` values, `to` room for their words.
#[inline(always)]
pub(crate) unsafe fn convert_row<A: Arch>(from: RowsPtr, len: usize, precision: Precision, to: *mut u32) {
    // SAFETY: the caller's promise; the last word exists when `len` is odd.
    unsafe {
        match (from, precision) {
            (RowsPtr::F32(from), Precision::F32) => copy::<A, f32, f32>(from, to.cast(), len),
            (RowsPtr::Bf16(from), Precision::F32) => copy::<A, u16, f32>(from, to.cast(), len),
            (_, Precision::Bf16) => {
                if len % 2 == 1 {
                    to.add(len / 2).write(0);
                }
                match from {
                    RowsPtr::F32(from) => copy::<A, f32, u16>(from, to.cast(), len),
                    RowsPtr::Bf16(from) => std::ptr::copy_nonoverlapping(from, to.cast(), len),
                }
            }
        }
    }
}
