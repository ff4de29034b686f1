//! Tensors on their way to a safetensors file: each is read where it lies, rounded if that was asked for, written, and let go.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use half::{bf16, f16};
use safetensors::Dtype as Format;
use safetensors::tensor::{Metadata, TensorInfo};

use super::ConvertError;
use crate::weights::{Dtype, Stored};

/// A tensor with its name and shape in the target.
pub(super) struct Outgoing<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) stored: &'a Stored,
    /// Whether it is rounded to half precision.
    pub(super) half: bool,
}

impl Outgoing<'_> {
    fn dtype(&self) -> Dtype {
        if self.half { Dtype::F16 } else { self.stored.dtype() }
    }

    fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().size()
    }

    /// Little-endian elements, row-major.
    fn bytes(&self) -> Result<Cow<'_, [u8]>, ConvertError> {
        let bytes = self.stored.bytes();
        if self.dtype() == self.stored.dtype() {
            return Ok(bytes);
        }
        let rounded = to_half(self.stored.dtype(), &bytes);
        rounded.map(Cow::Owned).map_err(|value| {
            let (tensor, file) = (self.name.clone(), self.stored.file().to_owned());
            ConvertError::Overflow { tensor, file, value }
        })
    }
}

/// Rounds to the nearest f16, ties to even. A finite value that has none is the error; values that are not finite stay so.
fn to_half(dtype: Dtype, bytes: &[u8]) -> Result<Vec<u8>, f64> {
    let checked = |half: f16, exact: f64| if half.is_infinite() && exact.is_finite() { Err(exact) } else { Ok(half) };
    fn all<const N: usize>(bytes: &[u8], half: impl Fn([u8; N]) -> Result<f16, f64>) -> Result<Vec<u8>, f64> {
        let mut out = Vec::with_capacity(bytes.len() / N * 2);
        for element in bytes.as_chunks::<N>().0 {
            out.extend_from_slice(&half(*element)?.to_le_bytes());
        }
        Ok(out)
    }
    match dtype {
        Dtype::F64 => all(bytes, |element| {
            let exact = f64::from_le_bytes(element);
            checked(f16::from_f32(to_odd(exact)), exact)
        }),
        Dtype::F32 => all(bytes, |element| {
            let exact = f32::from_le_bytes(element);
            checked(f16::from_f32(exact), exact.into())
        }),
        Dtype::Bf16 => all(bytes, |element| {
            let exact = bf16::from_le_bytes(element);
            checked(f16::from_f32(exact.to_f32()), exact.into())
        }),
        Dtype::F16 | Dtype::Other(..) => Ok(bytes.to_vec()),
    }
}

/// The f32 beside a value that tells on which side of it the value lies: of the two around a value that is none, the one whose last bit is
/// set. Rounded once more, to less than half as many bits, that gives what the value itself gives (Boldo and Melquiond 2008, "Emulation of
/// FMA and correctly rounded sums", theorem 1); the nearest f32 does not. `f16::from_f64` takes that one where the processor has instructions.
fn to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || value.is_nan() {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

/// Writes a safetensors file and gives the bytes of its tensors. `path` is its name, for messages.
///
/// The order is the library's own, larger elements first and then by name, so the same tensors are the same file.
pub(super) fn write(
    file: &File,
    path: &Path,
    tensors: &[Outgoing<'_>],
    stop: &AtomicBool,
) -> Result<u64, ConvertError> {
    let failed = ConvertError::write(path);
    let mut ordered = tensors.iter().map(|tensor| Ok((format_of(tensor)?, tensor))).collect::<io::Result<Vec<_>>>();
    if let Ok(ordered) = &mut ordered {
        ordered.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.name.cmp(&b.name)));
    }
    let ordered = ordered.map_err(&failed)?;

    let mut end = 0;
    let infos = ordered.iter().map(|(dtype, tensor)| {
        let start = end;
        end += tensor.byte_len();
        let info = TensorInfo { dtype: *dtype, shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    });
    let infos = infos.collect();
    // transformers reads no file that does not say so.
    let said = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(said), infos).map_err(io::Error::other);
    let header = header.and_then(|header| serde_json::to_vec(&header).map_err(io::Error::other));
    let mut header = header.map_err(&failed)?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&header)).map_err(&failed)?;
    for (_, tensor) in ordered {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Stopped);
        }
        out.write_all(&tensor.bytes()?).map_err(&failed)?;
        tensor.stored.release();
    }
    out.flush().map_err(&failed)?;
    Ok(end as u64)
}

/// Only floating-point tensors come here: those are all that a network is made of.
fn format_of(tensor: &Outgoing<'_>) -> io::Result<Format> {
    match tensor.dtype() {
        Dtype::F16 => Ok(Format::F16),
        Dtype::Bf16 => Ok(Format::BF16),
        Dtype::F32 => Ok(Format::F32),
        Dtype::F64 => Ok(Format::F64),
        Dtype::Other(name, _) => Err(io::Error::other(format!("tensor {} has elements of type {name}", tensor.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect()
    }

    #[test]
    fn values_are_rounded_once_to_the_nearest() {
        // 1 + 2⁻¹¹ lies between two halves and goes to the even one; a little more goes up, though f32 cannot tell.
        let tie = 1.0 + f64::from(2.0_f32.powi(-11));
        let values =
            [1.0, tie, tie + 1e-12, tie - 1e-12, -65504.0, 65_519.999_999_999, 2.0_f64.powi(-26), f64::INFINITY];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let expected = [1.0, 1.0, 1.0 + 2.0_f32.powi(-10), 1.0, -65504.0, 65504.0, 0.0, f32::INFINITY];
        assert_eq!(halves(&to_half(Dtype::F64, &bytes).unwrap()), expected);
        // Half of the smallest half goes to zero, a little more does not; and what no f32 reaches has no half.
        let smallest = 2.0_f64.powi(-25);
        let bytes: Vec<u8> =
            [smallest, smallest * (1.0 + 1e-12), 1e-300].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(halves(&to_half(Dtype::F64, &bytes).unwrap()), [0.0, 2.0_f32.powi(-24), 0.0]);
        assert_eq!(to_half(Dtype::F64, &1e300_f64.to_le_bytes()), Err(1e300));

        let singles: Vec<u8> = [0.1_f32, -3.0e-8].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(halves(&to_half(Dtype::F32, &singles).unwrap()), [0.099_975_586, -5.960_464_5e-8]);
        let brains: Vec<u8> =
            [1.5_f32, f32::NAN].iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        let found = halves(&to_half(Dtype::Bf16, &brains).unwrap());
        assert!(found[0] == 1.5 && found[1].is_nan(), "{found:?}");
    }

    #[test]
    fn what_has_no_half_is_told() {
        let bytes: Vec<u8> = [1.0_f32, 65520.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(to_half(Dtype::F32, &bytes), Err(65520.0));
        let brain = bf16::from_f32(-1e9).to_le_bytes();
        assert_eq!(to_half(Dtype::Bf16, &brain), Err(f64::from(bf16::from_f32(-1e9))));
    }
}
