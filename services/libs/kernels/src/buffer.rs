//! Memory for activations: values of either precision on a cache-line boundary, to be used again for other shapes.

use crate::element::Precision;
use crate::layout::per_word;
use crate::matrix::{Values, ValuesMut};
use crate::memory::Words;
use half::bf16;

/// Owned values whose length and precision can change while the memory stays.
pub struct Buffer {
    words: Words,
    len: usize,
    precision: Precision,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeroed(len: usize, precision: Precision) -> Buffer {
        Buffer { words: Words::zeroed(len.div_ceil(per_word(precision))), len, precision }
    }

    /// The same memory for `len` values, if that many fit into it. What they are is arbitrary.
    ///
    /// # Errors
    /// The buffer itself, when it is too small.
    pub fn reuse(self, len: usize, precision: Precision) -> Result<Buffer, Buffer> {
        if len.div_ceil(per_word(precision)) > self.words.len() {
            return Err(self);
        }
        Ok(Buffer { len, precision, ..self })
    }

    /// Bytes of memory, of which the values may take less.
    pub fn capacity(&self) -> usize {
        4 * self.words.len()
    }

    /// All of the memory, as words.
    pub(crate) fn words(&self) -> &[u32] {
        self.words.as_slice()
    }

    /// All of the memory, as words to be written.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        self.words.as_mut_slice()
    }

    /// The values.
    pub fn values(&self) -> Values<'_> {
        let start = self.words.as_ptr();
        // SAFETY: the words hold `len` values of this precision, initialised since the words were made; any bits are valid.
        unsafe {
            match self.precision {
                Precision::F32 => Values::F32(std::slice::from_raw_parts(start.cast::<f32>(), self.len)),
                Precision::Bf16 => Values::Bf16(std::slice::from_raw_parts(start.cast::<bf16>(), self.len)),
            }
        }
    }

    /// The values, to be written.
    pub fn values_mut(&mut self) -> ValuesMut<'_> {
        let start = self.words.as_mut_ptr();
        // SAFETY: as for `values`, and the borrow is exclusive.
        unsafe {
            match self.precision {
                Precision::F32 => ValuesMut::F32(std::slice::from_raw_parts_mut(start.cast::<f32>(), self.len)),
                Precision::Bf16 => ValuesMut::Bf16(std::slice::from_raw_parts_mut(start.cast::<bf16>(), self.len)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_serves_other_lengths_and_precisions_that_fit() {
        let buffer = Buffer::zeroed(10, Precision::F32);
        assert_eq!(buffer.values().len(), 10);
        let Ok(mut buffer) = buffer.reuse(20, Precision::Bf16) else { panic!("20 bf16 fit into 10 words") };
        if let ValuesMut::Bf16(values) = buffer.values_mut() {
            values.fill(bf16::ONE);
        }
        assert_eq!((buffer.values().len(), buffer.values().get(19)), (20, 1.0));
        assert!(buffer.reuse(21, Precision::Bf16).is_err());
    }
}
