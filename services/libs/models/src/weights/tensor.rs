//! A tensor that is being read: its bytes, as values, for as long as somebody packs them.

use std::borrow::Cow;
use std::fmt;

use super::{Dtype, Stored};

/// One tensor: little-endian elements, row-major. While it lives, its part of a mapped file is in memory; when it drops, the
/// system may have that memory back, so that a model is never there twice.
pub struct WeightTensor<'a> {
    /// The type of its elements: always one of the floating-point ones.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements' bytes, borrowed from the file where they lie in order there. Not necessarily aligned.
    pub bytes: Cow<'a, [u8]>,
    stored: Option<&'a Stored>,
}

impl<'a> WeightTensor<'a> {
    pub(crate) fn stored(stored: &'a Stored) -> Self {
        let (dtype, shape, bytes) = (stored.dtype(), stored.shape().to_vec(), stored.bytes());
        Self { dtype, shape, bytes, stored: Some(stored) }
    }

    /// A tensor of which only the shape counts.
    pub(crate) fn without_values(shape: &[usize]) -> Self {
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: Cow::Borrowed(&[]), stored: None }
    }

    /// A tensor that is not a file's.
    pub(crate) fn from_f32(values: &[f32], shape: &[usize]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: Cow::Owned(bytes), stored: None }
    }

    /// The elements as f32; f64 is rounded.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        self.dtype.to_f32(&self.bytes)
    }

    /// As [`WeightTensor::to_f32`], without a copy of what is f32 and aligned already.
    #[must_use]
    pub fn as_f32(&self) -> Cow<'_, [f32]> {
        if self.dtype == Dtype::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice(&self.bytes)
        {
            return Cow::Borrowed(values);
        }
        Cow::Owned(self.to_f32())
    }
}

impl fmt::Debug for WeightTensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)
    }
}

impl Drop for WeightTensor<'_> {
    fn drop(&mut self) {
        if let Some(stored) = self.stored {
            stored.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_borrowed_and_copied() {
        let values: Vec<f32> = (0..1000u16).map(|i| f32::from(i) / 7.0).collect();
        let tensor = WeightTensor::from_f32(&values, &[10, 100]);
        assert_eq!((&tensor.as_f32()[..], &tensor.to_f32()), (&values[..], &values));
        let shifted: Vec<u8> = [&[0][..], &tensor.bytes].concat();
        let shifted =
            WeightTensor { bytes: Cow::Borrowed(&shifted[1..]), dtype: Dtype::F32, shape: vec![], stored: None };
        assert_eq!(&shifted.as_f32()[..], &values[..]);
    }
}
