//! Matrices without their lifetimes: what the tasks of a parallel section read and write side by side.

use crate::matrix::{Matrix, MatrixMut, Values, ValuesMut};
use half::bf16;

/// Where rows of values lie, in either precision.
#[derive(Clone, Copy)]
pub(crate) enum RowsPtr {
    F32(*const f32),
    Bf16(*const u16),
}

/// Where rows of values are written, in either precision.
#[derive(Clone, Copy)]
pub(crate) enum RowsMutPtr {
    F32(*mut f32),
    Bf16(*mut u16),
}

/// A [`Matrix`] without its lifetime, for tasks that read it side by side.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) start: RowsPtr,
    pub(crate) stride: usize,
}

/// A [`MatrixMut`] without its lifetime, for tasks that write disjoint parts of it side by side.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) start: RowsMutPtr,
    pub(crate) stride: usize,
}

// SAFETY: made from borrows that outlive the parallel section; readers only read.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}
// SAFETY: made from an exclusive borrow that outlives the parallel section, in which each task writes its own elements.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Matrix<'_> {
    pub(crate) fn source(&self) -> Source {
        let start = match self.values {
            Values::F32(values) => RowsPtr::F32(values.as_ptr()),
            Values::Bf16(values) => RowsPtr::Bf16(values.as_ptr().cast()),
        };
        Source { start, stride: self.stride }
    }
}

impl MatrixMut<'_> {
    pub(crate) fn target(&mut self) -> Target {
        let start = match &mut self.values {
            ValuesMut::F32(values) => RowsMutPtr::F32(values.as_mut_ptr()),
            ValuesMut::Bf16(values) => RowsMutPtr::Bf16(values.as_mut_ptr().cast()),
        };
        Target { start, stride: self.stride }
    }
}

impl Source {
    /// The start of a row.
    ///
    /// # Safety
    /// The matrix has the row.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, row: usize) -> RowsPtr {
        // SAFETY: the caller's promise.
        unsafe {
            match self.start {
                RowsPtr::F32(values) => RowsPtr::F32(values.add(row * self.stride)),
                RowsPtr::Bf16(values) => RowsPtr::Bf16(values.add(row * self.stride)),
            }
        }
    }
}

impl Source {
    /// One value, widened.
    ///
    /// # Safety
    /// The matrix has the row and the column.
    pub(crate) unsafe fn get(&self, row: usize, column: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            match self.row(row) {
                RowsPtr::F32(values) => values.add(column).read(),
                RowsPtr::Bf16(values) => bf16::from_bits(values.add(column).read()).to_f32(),
            }
        }
    }
}

impl Target {
    /// The start of a row.
    ///
    /// # Safety
    /// The matrix has the row.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, row: usize) -> RowsMutPtr {
        // SAFETY: the caller's promise.
        unsafe {
            match self.start {
                RowsMutPtr::F32(values) => RowsMutPtr::F32(values.add(row * self.stride)),
                RowsMutPtr::Bf16(values) => RowsMutPtr::Bf16(values.add(row * self.stride)),
            }
        }
    }

    /// What is already there, to be read by the task that overwrites it.
    pub(crate) fn source(self) -> Source {
        let start = match self.start {
            RowsMutPtr::F32(values) => RowsPtr::F32(values),
            RowsMutPtr::Bf16(values) => RowsPtr::Bf16(values),
        };
        Source { start, stride: self.stride }
    }
}

impl RowsPtr {
    /// # Safety
    /// The row has `columns` more values.
    #[inline(always)]
    pub(crate) unsafe fn add(self, columns: usize) -> RowsPtr {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                RowsPtr::F32(values) => RowsPtr::F32(values.add(columns)),
                RowsPtr::Bf16(values) => RowsPtr::Bf16(values.add(columns)),
            }
        }
    }
}
