//! Linear layers: `out[m, n] = epilogue(input[m, k] · weights[n, k]ᵀ)`.

use crate::blocks::{self, Input};
use crate::convert::convert_row;
use crate::element::Precision;
use crate::epilogue::{Epilogue, Finish};
use crate::layout::{Segment, per_word};
use crate::matrix::{Matrix, MatrixMut};
use crate::pack::PackedWeights;
use crate::rows::{RowsPtr, Source};
use crate::simd::Arch;
use std::ops::Range;

/// `out = epilogue(input · weightsᵀ)`.
///
/// Each output is one chain of additions over the reduction, so its bits depend on its own row, the weights and the
/// instruction set alone: not on the other rows, nor on the number of threads. Input of the other precision is converted a
/// block at a time.
///
/// # Panics
/// Shapes do not fit each other.
pub fn gemm(input: Matrix<'_>, weights: &PackedWeights, epilogue: &Epilogue<'_>, out: &mut MatrixMut<'_>) {
    assert_eq!(input.cols, weights.input_columns(), "input columns");
    assert!(weights.segments.iter().all(|segment| segment.source == 0), "weights of a linear layer");
    assert_eq!((out.rows, out.cols), (input.rows, weights.output_columns()), "output shape");
    let finish = Finish::new(weights, epilogue, input.rows, out.target());
    let rows =
        Rows { matrix: input.source(), cols: input.cols, segments: &weights.segments, precision: weights.precision };
    // SAFETY: shapes are checked above; the segments are cut from a row.
    unsafe { blocks::multiply(weights, &rows, input.rows, finish) }
}

/// The rows of a matrix, read where they are when the arithmetic allows, else copied.
struct Rows<'a> {
    matrix: Source,
    cols: usize,
    segments: &'a [Segment],
    precision: Precision,
}

impl Rows<'_> {
    /// Words a row takes in scratch.
    fn row_words(&self) -> usize {
        self.cols.div_ceil(per_word(self.precision))
    }

    fn in_place(&self) -> bool {
        match self.matrix.start {
            RowsPtr::F32(_) => self.precision == Precision::F32,
            // An odd row ends in half a word: the other half must be zero, not the next row's first value.
            RowsPtr::Bf16(_) => self.precision == Precision::Bf16 && self.cols.is_multiple_of(2),
        }
    }
}

impl Input for Rows<'_> {
    fn row_bytes(&self) -> usize {
        4 * self.row_words()
    }

    fn scratch_words(&self, rows: usize) -> usize {
        if self.in_place() { 0 } else { rows * self.row_words() }
    }

    #[inline(always)]
    unsafe fn locate<A: Arch>(&self, rows: Range<usize>, pointers: *mut *const f32, scratch: *mut u32) {
        let tiles = rows.len().div_ceil(A::MR);
        let per_word = per_word(self.precision);
        // SAFETY: rows exist in the matrix or, converted, in scratch; segments lie inside a row.
        unsafe {
            if !self.in_place() {
                for (i, row) in rows.clone().enumerate() {
                    let from = self.matrix.row(row);
                    convert_row::<A>(from, self.cols, self.precision, scratch.add(i * self.row_words()));
                }
            }
            for tile in 0..tiles {
                for (s, segment) in self.segments.iter().enumerate() {
                    for r in 0..A::MR {
                        let row = (tile * A::MR + r).min(rows.len() - 1);
                        let start: *const f32 = match self.matrix.start {
                            _ if !self.in_place() => {
                                scratch.add(row * self.row_words() + segment.offset / per_word).cast()
                            }
                            RowsPtr::F32(from) => from.add((rows.start + row) * self.matrix.stride + segment.offset),
                            RowsPtr::Bf16(from) => {
                                from.add((rows.start + row) * self.matrix.stride + segment.offset).cast()
                            }
                        };
                        *pointers.add((tile * self.segments.len() + s) * A::MR + r) = start;
                    }
                }
            }
        }
    }
}
