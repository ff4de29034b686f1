//! Reading a torch checkpoint: a zip archive of a pickle and of the tensors' bytes.
//!
//! `torch.save` writes `NAME/data.pkl`, a pickle in which each tensor is a recipe (`_rebuild_tensor_v2` of a storage, an
//! offset, a size and strides), and `NAME/data/KEY` for each storage, uncompressed. The pickle is read as data ([`machine`]):
//! nothing in it is ever executed, and what is not a tensor (Lightning's callbacks, optimizer classes, …) is skipped.

mod archive;
mod calls;
mod limits;
mod machine;
mod objects;
mod opcodes;
mod reader;

use super::{Blob, Stored};
use crate::error::LoadError;
use archive::Archive;
use machine::Machine;
use objects::{Heap, Value};

/// The key of the tensors.
const STATE: &str = "state_dict";

/// Whether the file starts as a zip archive does.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether the file starts as `torch.save` wrote it before torch 1.6: with the pickle of a magic number.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
}

/// Where a checkpoint keeps its tensors if not on the top level: as textual inversions do, besides [`STATE`].
const NESTED: [&str; 2] = [STATE, "string_to_param"];

/// What a checkpoint holds.
pub(super) struct Checkpoint {
    /// The tensors of its `state_dict` (or of its top level, where that is one), by name.
    pub(super) tensors: Vec<(String, Stored)>,
    /// The names of what lies beside its `state_dict`.
    pub(super) beside: Vec<String>,
}

/// Reads a checkpoint's directory and its pickle.
pub(super) fn read_checkpoint(blob: &Blob) -> Result<Checkpoint, LoadError> {
    let mut archive = Archive::open(blob)?;
    let pickle = archive.pickle()?;
    let (heap, root) = Machine::run(&pickle).map_err(|(offset, what)| {
        LoadError::malformed(blob.file(), format!("{} at offset {offset}: {what}", archive.pickle_name()))
    })?;
    let state = state_dict(&heap, root).ok_or_else(|| {
        LoadError::malformed(blob.file(), format!("its pickle holds no state_dict: it is {}", heap.describe(root)))
    })?;
    let mut tensors = Vec::new();
    let mut total = 0_u64;
    for (name, value) in state {
        let (Value::Text(name), Value::Tensor(id)) = (*name, *value) else { continue };
        let name = heap.text(name);
        let stored = archive.tensor(&heap, heap.tensor(id), name)?;
        // Storages may be shared, but not so much that a small file stands for endless bytes.
        total = total.saturating_add(stored.byte_len() as u64);
        if total > limits::expansion(blob.len()) {
            let what = format!("its tensors claim {total} bytes of a file of {}; they overlap", blob.len());
            return Err(LoadError::malformed(blob.file(), what));
        }
        tensors.push((name.to_owned(), stored));
    }
    Ok(Checkpoint { tensors, beside: beside(&heap, root) })
}

/// The other keys of a dictionary that has a `state_dict`.
fn beside(heap: &Heap<'_>, root: Value) -> Vec<String> {
    let Value::Dict(root) = root else { return Vec::new() };
    let keys = heap.dict(root).iter().filter_map(|(key, _)| match key {
        Value::Text(text) => Some(heap.text(*text)),
        _ => None,
    });
    if keys.clone().any(|key| key == STATE) {
        keys.filter(|key| *key != STATE).map(str::to_owned).collect()
    } else {
        Vec::new()
    }
}

/// The dictionary of tensors: one of the [`NESTED`], or the top level itself.
fn state_dict<'a>(heap: &'a Heap<'_>, root: Value) -> Option<&'a [(Value, Value)]> {
    let Value::Dict(root) = root else { return None };
    let items = heap.dict(root);
    // Later entries of a dictionary replace earlier ones.
    let is_nested = |key: &Value| matches!(key, Value::Text(text) if NESTED.contains(&heap.text(*text)));
    let nested = items.iter().rev().find(|(key, _)| is_nested(key));
    match nested {
        Some((_, Value::Dict(state))) => Some(heap.dict(*state)),
        Some(_) => None,
        None if items.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) => Some(items),
        None => None,
    }
}
