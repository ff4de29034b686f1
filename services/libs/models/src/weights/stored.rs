//! A tensor where it lies: a range of some file's bytes, with a shape and, in torch files, strides.

use std::borrow::Cow;

use super::Blob;
use super::dtype::Dtype;

/// The most dimensions a tensor may have; convolution weights have four.
const MAX_DIMENSIONS: usize = 8;

/// A tensor that has been checked to lie within its bytes.
#[derive(Clone)]
pub(crate) struct Stored {
    blob: Blob,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Byte offset of the first element.
    start: usize,
    /// Elements from one index to the next in each dimension; `None` when they lie in row-major order.
    strides: Option<Vec<usize>>,
}

impl Stored {
    /// A row-major tensor over `len` bytes at `start`, if those are exactly its own.
    pub(crate) fn contiguous(
        blob: Blob,
        dtype: Dtype,
        shape: Vec<usize>,
        start: usize,
        len: usize,
    ) -> Result<Self, String> {
        let needed = byte_count(&shape, dtype)?;
        if needed != len {
            return Err(format!("shape {shape:?} of {dtype} takes {needed} bytes, its range has {len}"));
        }
        let end = start.checked_add(len).filter(|end| *end <= blob.len());
        end.ok_or_else(|| format!("its range {start}+{len} lies outside of the file's {} bytes", blob.len()))?;
        Ok(Self { blob, dtype, shape, start, strides: None })
    }

    /// A torch tensor: elements of `blob[storage.0 .. storage.0 + storage.1]`, from element `offset` with `strides`.
    pub(crate) fn strided(
        blob: Blob,
        dtype: Dtype,
        storage: (usize, usize),
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, String> {
        let bytes = byte_count(&shape, dtype)?;
        let size = dtype.size();
        let (base, len) = storage;
        if base.checked_add(len).is_none_or(|end| end > blob.len()) {
            return Err(format!("its storage {base}+{len} lies outside of the file's {} bytes", blob.len()));
        }
        if strides.len() != shape.len() {
            return Err(format!("{} strides for {} dimensions", strides.len(), shape.len()));
        }
        // Expanded tensors (stride 0) would let a few bytes stand for terabytes.
        if bytes > len {
            return Err(format!("shape {shape:?} of {dtype} takes {bytes} bytes, its storage has {len}"));
        }
        let outside =
            || format!("offset {offset}, shape {shape:?} and strides {strides:?} reach outside of its storage");
        let first = offset.checked_mul(size).filter(|first| *first <= len).ok_or_else(outside)?;
        if !shape.contains(&0) {
            let mut steps = shape.iter().zip(&strides).map(|(count, stride)| (count - 1).checked_mul(*stride));
            let last = steps.try_fold(offset, |sum, step| sum.checked_add(step?)).ok_or_else(outside)?;
            let end = last.checked_add(1).and_then(|count| count.checked_mul(size)).ok_or_else(outside)?;
            if end > len {
                return Err(outside());
            }
        }
        let strides = if is_row_major(&shape, &strides) { None } else { Some(strides) };
        Ok(Self { blob, dtype, shape, start: base + first, strides })
    }

    pub(crate) fn file(&self) -> &str {
        self.blob.file()
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }

    /// Drops trailing dimensions of 1: a 1×1 convolution's weight as the linear layer's that it is.
    pub(crate) fn into_linear(mut self) -> Self {
        if let [_, _, 1, 1] = self.shape[..] {
            self.shape.truncate(2);
            if let Some(strides) = &mut self.strides {
                strides.truncate(2);
            }
        }
        self
    }

    /// The elements in row-major order: borrowed where they lie so, else gathered.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.strides {
            // `contiguous` and `strided` have checked the range.
            None => Cow::Borrowed(&self.blob[self.start..self.start + self.byte_len()]),
            Some(strides) => Cow::Owned(self.gather(strides)),
        }
    }

    /// Lets the system have the memory back in which the tensor's part of a mapped file was read.
    pub(crate) fn release(&self) {
        // The bytes of a strided tensor may be others' too; those would only be read again.
        self.blob.release(self.start..self.start + self.byte_len());
    }

    fn gather(&self, strides: &[usize]) -> Vec<u8> {
        let size = self.dtype.size();
        let mut out = Vec::with_capacity(self.byte_len());
        let mut index = vec![0; self.shape.len()];
        while out.len() < self.byte_len() {
            let element: usize = index.iter().zip(strides).map(|(at, stride)| at * stride).sum();
            let from = self.start + element * size;
            out.extend_from_slice(&self.blob[from..from + size]);
            // Counts on, the last dimension fastest.
            for (at, count) in index.iter_mut().zip(&self.shape).rev() {
                *at += 1;
                if *at < *count {
                    break;
                }
                *at = 0;
            }
        }
        out
    }
}

/// Bytes of a tensor, refusing what overflows or has absurdly many dimensions.
fn byte_count(shape: &[usize], dtype: Dtype) -> Result<usize, String> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(format!("{} dimensions; at most {MAX_DIMENSIONS} are read", shape.len()));
    }
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, count| bytes.checked_mul(*count));
    // A zero hides an overflow of the other dimensions from the product; nothing is read then.
    bytes.ok_or_else(|| format!("shape {shape:?} is larger than any memory"))
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(count, stride)| {
        // The stride of a dimension of one element is never used.
        let fits = *count == 1 || *stride == expected;
        expected *= count;
        fits
    })
}
