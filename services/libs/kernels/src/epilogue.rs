//! What happens to a tile of sums on its way out: bias, activation, gate, residual, rounding.

use crate::layout::{Columns, Panel};
use crate::math;
use crate::matrix::Matrix;
use crate::pack::PackedWeights;
use crate::rows::{RowsMutPtr, RowsPtr, Source, Target};
use crate::simd::{Arch, Vector};
use crate::storage::{load, store};

/// A function applied to every output before the residual is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// x · sigmoid(x).
    Silu,
    /// x · sigmoid(1.702 x).
    QuickGelu,
}

/// What is added to the result last.
#[derive(Clone, Copy, Debug, Default)]
pub enum Residual<'a> {
    /// Nothing.
    #[default]
    None,
    /// What the output holds already: `out += …`.
    Output,
    /// Another matrix of the output's shape.
    Matrix(Matrix<'a>),
}

/// A bias that changes from one group of rows to the next, such as the time embedding of each picture of a batch.
#[derive(Clone, Copy, Debug)]
pub struct GroupBias<'a> {
    /// `[groups, n]`, row-major; for gated weights each group's values first, then its gates'.
    pub values: &'a [f32],
    /// Rows of the output that share a bias; one is another matrix that is added to the sums.
    pub rows_per_group: usize,
}

/// `out = activation(sum + bias + group_bias) + residual`; with weights packed by [`PackedWeights::geglu`] the activation is
/// `value · gelu(gate)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value an output column; for gated weights the values' first, then the gates'.
    pub bias: Option<&'a [f32]>,
    /// Added beside the bias.
    pub group_bias: Option<GroupBias<'a>>,
    /// Applied to the biased sum.
    pub activation: Activation,
    /// Added last.
    pub residual: Residual<'a>,
}

/// An [`Epilogue`] whose shapes have been checked, with the matrices it reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    columns: Columns,
    /// Output columns.
    width: usize,
    bias: Option<&'a [f32]>,
    group_bias: Option<GroupBias<'a>>,
    activation: Activation,
    residual: Option<Source>,
    target: Target,
}

impl<'a> Finish<'a> {
    pub(crate) fn new(weights: &PackedWeights, epilogue: &Epilogue<'a>, rows: usize, target: Target) -> Finish<'a> {
        let width = weights.output_columns();
        let Epilogue { bias, group_bias, activation, residual } = *epilogue;
        assert!(bias.is_none_or(|bias| bias.len() == weights.n), "bias of {}", weights.n);
        if let Some(GroupBias { values, rows_per_group }) = group_bias {
            assert!(
                rows_per_group > 0 && values.len() >= rows.div_ceil(rows_per_group) * weights.n,
                "a bias for every group"
            );
        }
        assert!(
            weights.columns == Columns::Plain || activation == Activation::Identity,
            "gated weights have their own"
        );
        let residual = match residual {
            Residual::None => None,
            Residual::Output => Some(target.source()),
            Residual::Matrix(matrix) => {
                assert!(matrix.rows == rows && matrix.cols == width, "residual of [{rows}, {width}]");
                Some(matrix.source())
            }
        };
        Finish { columns: weights.columns, width, bias, group_bias, activation, residual, target }
    }

    /// Writes `rows` rows of a tile of sums, the first of which is output row `first`.
    ///
    /// # Safety
    /// `sums` are the tile's; the rows exist; no other task writes this panel's columns of them.
    #[inline(always)]
    pub(crate) unsafe fn write<A: Arch>(&self, panel: Panel, first: usize, rows: usize, sums: *const f32) {
        let lanes = A::V::LANES;
        let columns = panel.vectors * lanes;
        let (start, columns) = match self.columns {
            Columns::Plain => (panel.column, columns),
            Columns::Gated => (panel.column / 2, columns / 2),
        };
        let end = self.width.min(start + columns);
        for r in 0..rows {
            let row = first + r;
            let mut column = start;
            while column < end {
                let count = lanes.min(end - column);
                // SAFETY: the row exists and the tile has whole registers (the caller's promise); columns stay below `width`.
                unsafe {
                    let sums = sums.add(r * panel.vectors * lanes + column - start);
                    match self.columns {
                        Columns::Plain => self.put::<A>(A::V::load(sums), row, column, count),
                        Columns::Gated => {
                            let value = self.gated::<A>(sums, columns, row, column, count);
                            self.store::<A>(value, row, column, count);
                        }
                    }
                }
                column += lanes;
            }
        }
    }

    /// Writes the first `count` of a register of sums, weights not being gated: those of output row `row` from `column` on.
    ///
    /// # Safety
    /// The row and the columns exist; no other task writes them.
    #[inline(always)]
    pub(crate) unsafe fn put<A: Arch>(&self, sums: A::V, row: usize, column: usize, count: usize) {
        let mut value = sums;
        // SAFETY: biases have a value for every column, as `new` has checked; the rest is passed on.
        unsafe {
            if let Some(bias) = self.bias {
                value = value.add(load::<A, f32>(bias.as_ptr().add(column), count));
            }
            if let Some(GroupBias { values, rows_per_group }) = self.group_bias {
                let group = row / rows_per_group;
                value = value.add(load::<A, f32>(values.as_ptr().add(group * self.width + column), count));
            }
            let value = match self.activation {
                Activation::Identity => value,
                Activation::Silu => math::silu(value),
                Activation::QuickGelu => math::quick_gelu(value),
            };
            self.store::<A>(value, row, column, count);
        }
    }

    /// Adds the residual and writes the first `count` lanes.
    ///
    /// # Safety
    /// As [`Finish::put`].
    #[inline(always)]
    unsafe fn store<A: Arch>(&self, value: A::V, row: usize, column: usize, count: usize) {
        // SAFETY: residual and output have the row and the columns, as `new` has checked.
        unsafe {
            let value = self.add_residual::<A>(value, row, column, count);
            match self.target.row(row) {
                RowsMutPtr::F32(to) => store::<A, f32>(value, to.add(column), count),
                RowsMutPtr::Bf16(to) => store::<A, u16>(value, to.add(column), count),
            }
        }
    }

    /// # Safety
    /// As [`Finish::put`], for sums in a tile; the gates lie `half` sums after their values.
    #[inline(always)]
    unsafe fn gated<A: Arch>(&self, sums: *const f32, half: usize, row: usize, column: usize, count: usize) -> A::V {
        // SAFETY: `count` values and gates are in the tile; the biases hold `width` of each.
        unsafe {
            let mut value = load::<A, f32>(sums, count);
            let mut gate = load::<A, f32>(sums.add(half), count);
            if let Some(bias) = self.bias {
                value = value.add(load::<A, f32>(bias.as_ptr().add(column), count));
                gate = gate.add(load::<A, f32>(bias.as_ptr().add(self.width + column), count));
            }
            if let Some(GroupBias { values, rows_per_group }) = self.group_bias {
                let group = values.as_ptr().add(row / rows_per_group * 2 * self.width);
                value = value.add(load::<A, f32>(group.add(column), count));
                gate = gate.add(load::<A, f32>(group.add(self.width + column), count));
            }
            // What is rounded to bf16 next needs no seven digits.
            let gelu = match self.target.start {
                RowsMutPtr::F32(_) => math::gelu(gate),
                RowsMutPtr::Bf16(_) => math::gelu_bf16(gate),
            };
            value.mul(gelu)
        }
    }

    /// # Safety
    /// As [`Finish::put`].
    #[inline(always)]
    unsafe fn add_residual<A: Arch>(&self, value: A::V, row: usize, column: usize, count: usize) -> A::V {
        let Some(residual) = self.residual else { return value };
        let at = row * residual.stride + column;
        // SAFETY: the residual has the output's shape.
        value.add(unsafe {
            match residual.start {
                RowsPtr::F32(from) => load::<A, f32>(from.add(at), count),
                RowsPtr::Bf16(from) => load::<A, u16>(from.add(at), count),
            }
        })
    }
}
