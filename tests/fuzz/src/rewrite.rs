//! Tensors as a safetensors file again: what was read from one file must be read the same from another.

use std::collections::BTreeMap;

use darkroom_models::fuzzing::NamedTensor;
use darkroom_models::weights::Dtype;
use serde_json::json;

/// A safetensors file of these tensors; of a name that comes twice, the last one. `None` for elements that have no name in
/// that format.
#[must_use]
pub fn as_safetensors(tensors: &[NamedTensor]) -> Option<Vec<u8>> {
    let by_name: BTreeMap<&str, &NamedTensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in by_name {
        let start = data.len();
        data.extend_from_slice(&tensor.bytes);
        let entry = json!({
            "dtype": format_name(tensor.dtype)?,
            "shape": tensor.shape,
            "data_offsets": [start, data.len()],
        });
        header.insert(name.to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).ok()?;
    Some([&(header.len() as u64).to_le_bytes()[..], &header, &data].concat())
}

fn format_name(dtype: Dtype) -> Option<&'static str> {
    let name = match dtype {
        Dtype::F16 => "F16",
        Dtype::Bf16 => "BF16",
        Dtype::F32 => "F32",
        Dtype::F64 => "F64",
        Dtype::Other("bool", _) => "BOOL",
        Dtype::Other("u8", _) => "U8",
        Dtype::Other("i8", _) => "I8",
        Dtype::Other("i16", _) => "I16",
        Dtype::Other("u16", _) => "U16",
        Dtype::Other("i32", _) => "I32",
        Dtype::Other("u32", _) => "U32",
        Dtype::Other("i64", _) => "I64",
        Dtype::Other("u64", _) => "U64",
        Dtype::Other("f8_e4m3", _) => "F8_E4M3",
        Dtype::Other("f8_e5m2", _) => "F8_E5M2",
        Dtype::Other(..) => return None,
    };
    Some(name)
}
