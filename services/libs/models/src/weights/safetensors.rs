//! Reading a safetensors file's directory, trusting none of it.

use safetensors::Dtype as Format;
use safetensors::tensor::Metadata;

use super::dtype::Dtype;
use super::{Blob, Stored};
use crate::error::LoadError;

/// Bytes of the header's length at the start of the file.
const LENGTH: usize = 8;
/// The largest header that is read, as in the reference implementation.
const MAX_HEADER: usize = 100_000_000;

/// Whether the file starts as a safetensors file does: a length, then a JSON object.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(LENGTH) == Some(&b'{')
}

/// The tensors of a safetensors file, by name.
///
/// The format has no holes and no overlaps: ranges follow each other from the header to the file's end, and all of that is
/// checked here, so that a file cut short is found out before anything is loaded from it.
pub(crate) fn read_safetensors(blob: &Blob) -> Result<Vec<(String, Stored)>, LoadError> {
    let malformed = |what: String| LoadError::malformed(blob.file(), what);
    let (metadata, first) = read_header(blob)?;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let (start, len) = (first + info.data_offsets.0, info.data_offsets.1 - info.data_offsets.0);
        // Formats without a name here, some smaller than a byte, are kept as bytes: no network reads them.
        let (dtype, shape) = match dtype_of(info.dtype) {
            Some(dtype) => (dtype, info.shape.clone()),
            None => (Dtype::Other("an unusual format", 1), vec![len]),
        };
        let stored = Stored::contiguous(blob.clone(), dtype, shape, start, len);
        let stored = stored.map_err(|what| malformed(format!("tensor {name}: {what}")))?;
        tensors.push((name, stored));
    }
    Ok(tensors)
}

/// A text in a file's header that is no tensor's.
pub(crate) fn safetensors_text(blob: &Blob, name: &str) -> Result<Option<String>, LoadError> {
    let (metadata, _) = read_header(blob)?;
    Ok(metadata.metadata().as_ref().and_then(|texts| texts.get(name)).cloned())
}

/// The header, and where the tensors begin.
fn read_header(blob: &Blob) -> Result<(Metadata, usize), LoadError> {
    let malformed = |what: String| LoadError::malformed(blob.file(), what);
    let Some((length, rest)) = blob.split_first_chunk::<LENGTH>() else {
        return Err(malformed(format!("a safetensors file of {} bytes; it was cut short", blob.len())));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(malformed(format!("it announces a header of {length} bytes; no safetensors file has that")));
    }
    let Some((header, data)) = rest.split_at_checked(length) else {
        let what =
            format!("it announces a header of {length} bytes and has {} bytes left; it was cut short", rest.len());
        return Err(malformed(what));
    };
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|error| malformed(format!("its safetensors header is invalid: {error}")))?;
    if metadata.data_len() != data.len() {
        let (expected, found) = (metadata.data_len(), data.len());
        let what = if found < expected { "it was cut short" } else { "it has bytes that no tensor owns" };
        return Err(malformed(format!("its header describes {expected} bytes of tensors, {found} follow; {what}")));
    }
    Ok((metadata, LENGTH + length))
}

fn dtype_of(format: Format) -> Option<Dtype> {
    let known = match format {
        Format::F16 => Dtype::F16,
        Format::BF16 => Dtype::Bf16,
        Format::F32 => Dtype::F32,
        Format::F64 => Dtype::F64,
        Format::BOOL => Dtype::Other("bool", 1),
        Format::U8 => Dtype::Other("u8", 1),
        Format::I8 => Dtype::Other("i8", 1),
        Format::I16 => Dtype::Other("i16", 2),
        Format::U16 => Dtype::Other("u16", 2),
        Format::I32 => Dtype::Other("i32", 4),
        Format::U32 => Dtype::Other("u32", 4),
        Format::I64 => Dtype::Other("i64", 8),
        Format::U64 => Dtype::Other("u64", 8),
        Format::F8_E4M3 => Dtype::Other("f8_e4m3", 1),
        Format::F8_E5M2 => Dtype::Other("f8_e5m2", 1),
        _ => return None,
    };
    Some(known)
}
