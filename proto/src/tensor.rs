//! A checked view of a tensor message: nothing is allocated from a size that the bytes do not bear out.
//!
//! A sender can write any shape and any bytes. [`TensorView::new`] holds dtype, shape and byte length against each other with
//! checked arithmetic, [`TensorView::expect_shape`] holds the shape against what the call needs, and
//! [`TensorView::to_f32`] refuses NaN and infinities before it allocates. A service that only passes tensors on
//! stops after the first two and never reads an element.

use bytes::Bytes;
use half::{bf16, f16};

use crate::v1::{Dtype, Tensor};

/// Most dimensions that a tensor message may have.
pub const MAX_RANK: usize = 8;

/// What is wrong with a tensor. The text names the field, what was found and what was expected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// The message is absent.
    #[error("{field}: no tensor was sent")]
    Missing {
        /// The message field that holds the tensor.
        field: &'static str,
    },
    /// `dtype` is unspecified or a number this version does not know.
    #[error("{field}: dtype {dtype} is not known, use DTYPE_F32, DTYPE_F16, DTYPE_BF16 or DTYPE_U8")]
    UnknownDtype {
        /// The message field that holds the tensor.
        field: &'static str,
        /// The number on the wire.
        dtype: i32,
    },
    /// Too many dimensions.
    #[error("{field}: the shape has {rank} dimensions, at most {MAX_RANK} are allowed")]
    Rank {
        /// The message field that holds the tensor.
        field: &'static str,
        /// Dimensions found.
        rank: usize,
    },
    /// One of the sizes is zero.
    #[error("{field}: the shape {shape:?} holds a zero")]
    Empty {
        /// The message field that holds the tensor.
        field: &'static str,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// The shape's product does not fit into memory addresses.
    #[error("{field}: the shape {shape:?} has more elements than can be counted")]
    Overflow {
        /// The message field that holds the tensor.
        field: &'static str,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// `data` is longer or shorter than shape and dtype say.
    #[error("{field}: {dtype} {shape:?} takes {expected} bytes of data, found {found}")]
    Length {
        /// The message field that holds the tensor.
        field: &'static str,
        /// Name of the dtype found.
        dtype: &'static str,
        /// The shape found.
        shape: Vec<usize>,
        /// Bytes that dtype and shape ask for.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The shape is sound, but not the one that the call needs.
    #[error("{field}: expected the shape {expected:?}, found {found:?}")]
    Shape {
        /// The message field that holds the tensor.
        field: &'static str,
        /// The shape that the call needs.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// The dtype is known, but not the one that the call needs.
    #[error("{field}: expected {expected}, found {found}")]
    Dtype {
        /// The message field that holds the tensor.
        field: &'static str,
        /// The dtype that the call needs.
        expected: &'static str,
        /// The dtype found.
        found: &'static str,
    },
    /// A NaN or an infinity.
    #[error("{field}: element {index} is {value}, every element must be finite")]
    NotFinite {
        /// The message field that holds the tensor.
        field: &'static str,
        /// Row-major position of the first bad element.
        index: usize,
        /// Its value.
        value: f32,
    },
}

impl TensorError {
    /// The message field that the error is about.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing { field }
            | Self::UnknownDtype { field, .. }
            | Self::Rank { field, .. }
            | Self::Empty { field, .. }
            | Self::Overflow { field, .. }
            | Self::Length { field, .. }
            | Self::Shape { field, .. }
            | Self::Dtype { field, .. }
            | Self::NotFinite { field, .. } => field,
        }
    }
}

/// A shape of at most [`MAX_RANK`] dimensions, kept without heap memory.
#[derive(Debug, Clone, Copy)]
struct Shape {
    sizes: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// Keeps the first [`MAX_RANK`] of `sizes`.
    fn new(sizes: impl IntoIterator<Item = usize>) -> Self {
        let mut shape = Self { sizes: [0; MAX_RANK], rank: 0 };
        for (slot, size) in shape.sizes.iter_mut().zip(sizes) {
            *slot = size;
            shape.rank += 1;
        }
        shape
    }

    fn as_slice(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    /// The product of the sizes; `None` when it does not fit.
    fn elements(&self) -> Option<usize> {
        self.as_slice().iter().try_fold(1usize, |product, &size| product.checked_mul(size))
    }
}

/// A tensor message whose dtype is known and whose bytes are exactly as many as dtype and shape say.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    field: &'static str,
    dtype: Dtype,
    shape: Shape,
    data: &'a Bytes,
}

impl<'a> TensorView<'a> {
    /// Checks dtype, rank, sizes and byte length. `field` is the message field that errors name.
    ///
    /// # Errors
    /// Every [`TensorError`] but `Missing`, `Shape`, `Dtype` and `NotFinite`.
    pub fn new(tensor: &'a Tensor, field: &'static str) -> Result<Self, TensorError> {
        let dtype = match Dtype::try_from(tensor.dtype) {
            Ok(Dtype::Unspecified) | Err(_) => return Err(TensorError::UnknownDtype { field, dtype: tensor.dtype }),
            Ok(dtype) => dtype,
        };
        if tensor.shape.len() > MAX_RANK {
            return Err(TensorError::Rank { field, rank: tensor.shape.len() });
        }
        let shape = Shape::new(tensor.shape.iter().map(|&size| size as usize));
        if shape.as_slice().contains(&0) {
            return Err(TensorError::Empty { field, shape: shape.as_slice().to_vec() });
        }
        let expected = shape
            .elements()
            .and_then(|count| count.checked_mul(width(dtype)))
            .ok_or_else(|| TensorError::Overflow { field, shape: shape.as_slice().to_vec() })?;
        let found = tensor.data.len();
        if found != expected {
            let shape = shape.as_slice().to_vec();
            return Err(TensorError::Length { field, dtype: name(dtype), shape, expected, found });
        }
        Ok(Self { field, dtype, shape, data: &tensor.data })
    }

    /// As [`TensorView::new`], for a field that must be there.
    ///
    /// # Errors
    /// [`TensorError::Missing`] for `None`, else as [`TensorView::new`].
    pub fn required(tensor: Option<&'a Tensor>, field: &'static str) -> Result<Self, TensorError> {
        Self::new(tensor.ok_or(TensorError::Missing { field })?, field)
    }

    /// Goes on only when the shape is `expected`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] with both shapes.
    pub fn expect_shape(self, expected: &[usize]) -> Result<Self, TensorError> {
        if self.shape() == expected {
            return Ok(self);
        }
        Err(TensorError::Shape { field: self.field, expected: expected.to_vec(), found: self.shape().to_vec() })
    }

    /// Goes on only when the dtype is `expected`.
    ///
    /// # Errors
    /// [`TensorError::Dtype`] with both names.
    pub fn expect_dtype(self, expected: Dtype) -> Result<Self, TensorError> {
        if self.dtype == expected {
            return Ok(self);
        }
        Err(TensorError::Dtype { field: self.field, expected: name(expected), found: name(self.dtype) })
    }

    /// The element type; never `Unspecified`.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Sizes from the outermost dimension to the innermost; none is 0.
    pub fn shape(&self) -> &[usize] {
        self.shape.as_slice()
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.data.len() / width(self.dtype)
    }

    /// The elements as `f32`, row-major: f16 and bf16 are widened exactly, u8 becomes 0 to 255.
    ///
    /// # Errors
    /// [`TensorError::NotFinite`] for the first NaN or infinity, found before anything is allocated.
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        match self.dtype {
            Dtype::F16 => self.collect(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => self.collect(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::U8 => self.collect(|[byte]| f32::from(byte)),
            Dtype::F32 | Dtype::Unspecified => self.collect(f32::from_le_bytes),
        }
    }

    /// The bytes of a u8 tensor.
    ///
    /// # Errors
    /// [`TensorError::Dtype`] for any other dtype.
    pub fn as_u8(&self) -> Result<&'a [u8], TensorError> {
        self.expect_dtype(Dtype::U8).map(|view| view.data.as_ref())
    }

    fn collect<const N: usize>(&self, read: impl Fn([u8; N]) -> f32) -> Result<Vec<f32>, TensorError> {
        let (elements, _) = self.data.as_chunks::<N>();
        let bad = elements.iter().map(|&bytes| read(bytes)).enumerate().find(|(_, value)| !value.is_finite());
        if let Some((index, value)) = bad {
            return Err(TensorError::NotFinite { field: self.field, index, value });
        }
        Ok(elements.iter().map(|&bytes| read(bytes)).collect())
    }
}

impl Tensor {
    /// An f32 tensor. `values` are row-major and as many as `shape` says: a receiver refuses anything else.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        let mut data = Vec::with_capacity(size_of_val(values));
        for value in values {
            data.extend_from_slice(&value.to_le_bytes());
        }
        Self::from_bytes(Dtype::F32, shape, data.into())
    }

    /// A u8 tensor. `values` are row-major and as many as `shape` says: a receiver refuses anything else.
    pub fn from_u8(shape: &[usize], values: impl Into<Bytes>) -> Self {
        Self::from_bytes(Dtype::U8, shape, values.into())
    }

    fn from_bytes(dtype: Dtype, shape: &[usize], data: Bytes) -> Self {
        // A size beyond u32 cannot be sent; u32::MAX then makes the receiver refuse the length.
        let shape = shape.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect();
        Self { dtype: dtype as i32, shape, data }
    }
}

/// Bytes an element.
fn width(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 | Dtype::Unspecified => 4,
        Dtype::F16 | Dtype::Bf16 => 2,
        Dtype::U8 => 1,
    }
}

fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        Dtype::Bf16 => "bf16",
        Dtype::U8 => "u8",
        Dtype::Unspecified => "unspecified",
    }
}
