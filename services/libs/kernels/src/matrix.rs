//! Borrowed row-major matrices of f32 or bf16: how activations enter and leave the kernels.

use half::bf16;

/// Values in either precision.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// 32-bit values.
    F32(&'a [f32]),
    /// 16-bit values.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those from `start` on.
    #[must_use]
    pub fn skip(self, start: usize) -> Self {
        match self {
            Values::F32(values) => Values::F32(&values[start..]),
            Values::Bf16(values) => Values::Bf16(&values[start..]),
        }
    }

    /// The value at `index`, widened.
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Values::F32(values) => values[index],
            Values::Bf16(values) => values[index].to_f32(),
        }
    }
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Values::F32(values)
    }
}

impl<'a> From<&'a [bf16]> for Values<'a> {
    fn from(values: &'a [bf16]) -> Self {
        Values::Bf16(values)
    }
}

impl<'a> From<&'a Vec<f32>> for Values<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Values::F32(values)
    }
}

impl<'a> From<&'a Vec<bf16>> for Values<'a> {
    fn from(values: &'a Vec<bf16>) -> Self {
        Values::Bf16(values)
    }
}

/// Values in either precision, to be written.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// 32-bit values.
    F32(&'a mut [f32]),
    /// 16-bit values.
    Bf16(&'a mut [bf16]),
}

impl ValuesMut<'_> {
    /// Those from `start` on.
    #[must_use]
    pub fn skip(self, start: usize) -> Self {
        match self {
            ValuesMut::F32(values) => ValuesMut::F32(&mut values[start..]),
            ValuesMut::Bf16(values) => ValuesMut::Bf16(&mut values[start..]),
        }
    }

    /// Those before `at`, and those from it on.
    #[must_use]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            ValuesMut::F32(values) => {
                let (before, after) = values.split_at_mut(at);
                (ValuesMut::F32(before), ValuesMut::F32(after))
            }
            ValuesMut::Bf16(values) => {
                let (before, after) = values.split_at_mut(at);
                (ValuesMut::Bf16(before), ValuesMut::Bf16(after))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            ValuesMut::F32(values) => values.len(),
            ValuesMut::Bf16(values) => values.len(),
        }
    }
}

impl<'a> From<&'a mut [f32]> for ValuesMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        ValuesMut::F32(values)
    }
}

impl<'a> From<&'a mut [bf16]> for ValuesMut<'a> {
    fn from(values: &'a mut [bf16]) -> Self {
        ValuesMut::Bf16(values)
    }
}

impl<'a> From<&'a mut Vec<f32>> for ValuesMut<'a> {
    fn from(values: &'a mut Vec<f32>) -> Self {
        ValuesMut::F32(values)
    }
}

impl<'a> From<&'a mut Vec<bf16>> for ValuesMut<'a> {
    fn from(values: &'a mut Vec<bf16>) -> Self {
        ValuesMut::Bf16(values)
    }
}

/// How many values `rows` rows of `cols` reach over when they start `stride` apart.
fn reach(rows: usize, cols: usize, stride: usize) -> usize {
    assert!(cols <= stride, "rows of {cols} values do not fit a stride of {stride}");
    if rows == 0 { 0 } else { (rows - 1) * stride + cols }
}

/// `rows × cols` values whose rows start `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that follow each other without a gap.
    ///
    /// # Panics
    /// `values` are fewer than `rows · cols`.
    pub fn new(values: impl Into<Values<'a>>, rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::strided(values, rows, cols, cols)
    }

    /// Rows `stride` values apart, such as a third of a joint query-key-value matrix.
    ///
    /// # Panics
    /// `values` end before the last row, or rows overlap.
    pub fn strided(values: impl Into<Values<'a>>, rows: usize, cols: usize, stride: usize) -> Matrix<'a> {
        let values = values.into();
        let needed = reach(rows, cols, stride);
        assert!(values.len() >= needed, "{} values are too few for {needed}", values.len());
        Matrix { values, rows, cols, stride }
    }
}

/// As [`Matrix`], to be written.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    pub(crate) values: ValuesMut<'a>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Rows that follow each other without a gap.
    ///
    /// # Panics
    /// `values` are fewer than `rows · cols`.
    pub fn new(values: impl Into<ValuesMut<'a>>, rows: usize, cols: usize) -> MatrixMut<'a> {
        MatrixMut::strided(values, rows, cols, cols)
    }

    /// Rows `stride` values apart; what lies between them is left alone.
    ///
    /// # Panics
    /// `values` end before the last row, or rows overlap.
    pub fn strided(values: impl Into<ValuesMut<'a>>, rows: usize, cols: usize, stride: usize) -> MatrixMut<'a> {
        let values = values.into();
        let needed = reach(rows, cols, stride);
        assert!(values.len() >= needed, "{} values are too few for {needed}", values.len());
        MatrixMut { values, rows, cols, stride }
    }
}
