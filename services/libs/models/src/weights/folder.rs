//! One part of a diffusers folder: the file, or the shards, that its library would have saved.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Part, Stored, Weights, names, single};
use crate::error::LoadError;
use crate::source::Files;

/// The largest index of shards that is read, in bytes.
const MAX_INDEX_BYTES: usize = 16 << 20;
/// The most shards a part may have.
const MAX_SHARDS: usize = 1024;

/// Finds and opens the weights of a part in its folder, which is empty or has a slash at its end: safetensors before `.bin`, plain
/// before fp16, whole before sharded.
pub(crate) fn folder_weights(files: &Files, folder: &str, part: Part) -> Result<Weights, LoadError> {
    let (file, tensors) = folder_tensors(files, folder, part)?;
    Ok(gather(&file, part, tensors))
}

/// As [`folder_weights`], all tensors under the names that they have there, and the file.
pub(crate) fn folder_tensors(
    files: &Files,
    folder: &str,
    part: Part,
) -> Result<(String, Vec<(String, Stored)>), LoadError> {
    // transformers and diffusers call their files otherwise.
    let (stem, pickle) = match part {
        Part::TextEncoder | Part::SafetyChecker => ("model", "pytorch_model"),
        Part::Unet | Part::Vae => ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    };
    let candidates = [(stem, "safetensors"), (pickle, "bin")].into_iter().flat_map(|(stem, ending)| {
        ["", ".fp16"].into_iter().flat_map(move |variant| {
            let whole = format!("{folder}{stem}{variant}.{ending}");
            // diffusers puts the variant behind "index", transformers before the ending: both are seen.
            let shards = [
                format!("{folder}{stem}.{ending}.index{variant}.json"),
                format!("{folder}{stem}{variant}.{ending}.index.json"),
            ];
            std::iter::once(whole).chain(shards)
        })
    });
    for path in candidates {
        let Some(blob) = files.open(&path)? else { continue };
        let tensors = if path.ends_with(".json") {
            read_shards(files, folder, blob.file(), &blob)?
        } else {
            single::read_tensors(&blob)?
        };
        return Ok((blob.file().to_owned(), tensors));
    }
    let place = if folder.is_empty() { String::new() } else { format!(" in {}", folder.trim_end_matches('/')) };
    let what =
        format!("holds no weights{place}: expected {stem}.safetensors, its .fp16 variant, shards or {pickle}.bin");
    Err(LoadError::incomplete(files.name(), what))
}

fn gather(file: &str, part: Part, tensors: Vec<(String, Stored)>) -> Weights {
    let useful = tensors.into_iter().filter(|(name, _)| names::is_useful(part, name));
    let renamed = useful.map(|(name, stored)| {
        let name = names::from_diffusers(part, &name);
        let stored = names::reshaped(part, &name, stored);
        (name, stored)
    });
    Weights::new(file, renamed)
}

/// Reads every shard that an index names in its `weight_map`.
fn read_shards(files: &Files, folder: &str, file: &str, index: &[u8]) -> Result<Vec<(String, Stored)>, LoadError> {
    let malformed = |what: String| LoadError::malformed(file, what);
    if index.len() > MAX_INDEX_BYTES {
        return Err(malformed(format!("an index of {} bytes; at most {MAX_INDEX_BYTES} are read", index.len())));
    }
    let index: Value = serde_json::from_slice(index).map_err(|error| malformed(format!("not JSON: {error}")))?;
    let map = index["weight_map"].as_object().ok_or_else(|| malformed("it has no weight_map".into()))?;
    let shards: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if shards.len() > MAX_SHARDS {
        return Err(malformed(format!("{} shards; at most {MAX_SHARDS} are read", shards.len())));
    }
    let mut tensors = Vec::new();
    for shard in shards {
        // A shard lies beside its index: no path of a foreign file leads out of the model's folder.
        if shard.contains(['/', '\\']) || shard.starts_with('.') {
            return Err(malformed(format!("shard {shard:?} is not the name of a file beside it")));
        }
        let blob = files.open(&format!("{folder}{shard}"))?;
        let blob =
            blob.ok_or_else(|| LoadError::incomplete(file, format!("names the shard {shard}, which is missing")))?;
        tensors.extend(single::read_tensors(&blob)?);
    }
    Ok(tensors)
}
