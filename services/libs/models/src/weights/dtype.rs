//! The element types that weights come in, and their conversion to f32.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// The type of a stored tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Anything else (integers, booleans, 8-bit floats): known by its name and its size in bytes, never converted.
    Other(&'static str, usize),
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(_, size) => size,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        !matches!(self, Self::Other(..))
    }

    /// Converts little-endian elements, in parallel where there are many. Gives nothing for [`Dtype::Other`].
    pub(crate) fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        /// Elements a task: large enough to hide its cost, small enough for the first cache.
        const CHUNK: usize = 4096;
        if !self.is_float() {
            return Vec::new();
        }
        let mut out = vec![0.0; bytes.len() / self.size()];
        out.par_chunks_mut(CHUNK)
            .zip(bytes.par_chunks(CHUNK * self.size()))
            .with_min_len(64)
            .for_each(|(out, bytes)| self.convert(bytes, out));
        out
    }

    fn convert(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::F64 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f64::from_le_bytes(*bytes) as f32;
                }
            }
            Self::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::F16 => {
                // Through an aligned copy, so that the processor's own conversion is used.
                let halves: Vec<f16> = bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
                halves.convert_to_f32_slice(&mut out[..halves.len()]);
            }
            Self::Other(..) => {}
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Other(name, _) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_reads_the_same_numbers() {
        // Exact in each type; odd in number and long enough for several chunks.
        let numbers: Vec<f32> = (0..10_001).map(|i| (i % 251 - 125) as f32 / 2.0).collect();
        let bytes = |encode: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|x| encode(*x)).collect::<Vec<u8>>();
        for (dtype, bytes) in [
            (Dtype::F32, bytes(&|x| x.to_le_bytes().into())),
            (Dtype::F64, bytes(&|x| f64::from(x).to_le_bytes().into())),
            (Dtype::F16, bytes(&|x| f16::from_f32(x).to_le_bytes().into())),
            (Dtype::Bf16, bytes(&|x| bf16::from_f32(x).to_le_bytes().into())),
        ] {
            // One byte further, so that nothing is aligned.
            let shifted = [&[0][..], &bytes].concat();
            assert_eq!(dtype.to_f32(&shifted[1..]), numbers, "{dtype}");
        }
    }
}
