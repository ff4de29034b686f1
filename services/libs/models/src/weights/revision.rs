//! A model part's revision: one hash over everything that decides its numbers.

use super::Stored;

/// Bytes above which one tensor's hash is itself spread over the threads.
const LARGE: usize = 1 << 20;

/// What the revision says of one tensor.
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) stored: &'a Stored,
    pub(super) digest: blake3::Hash,
}

/// BLAKE3 over each tensor's name, type, shape and digest in the order of the names, then over the configuration.
///
/// `tensors` are sorted by name. Each variable-length field is preceded by its length, so that no two models share an input.
pub(super) fn revision(tensors: &[Tensor<'_>], config: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for Tensor { name, stored, digest } in tensors {
        let shape: Vec<u8> = stored.shape().iter().flat_map(|count| (*count as u64).to_le_bytes()).collect();
        field(name.as_bytes());
        field(stored.dtype().to_string().as_bytes());
        field(&shape);
        field(digest.as_bytes());
    }
    field(config.as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// The digest of a tensor's bytes.
pub(super) fn digest(bytes: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    if bytes.len() > LARGE {
        hasher.update_rayon(bytes)
    } else {
        hasher.update(bytes)
    };
    hasher.finalize()
}

/// BLAKE3 over a revision, whose length is always the same, and what else counts.
pub(crate) fn revision_with(revision: &str, settings: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(revision.as_bytes());
    hasher.update(settings.as_bytes());
    hasher.finalize().to_hex().to_string()
}
