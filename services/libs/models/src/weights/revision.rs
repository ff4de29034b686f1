//! A model part's revision: one hash over everything that decides its numbers.

use rayon::prelude::*;

use super::Stored;

/// Bytes above which one tensor's hash is itself spread over the threads.
const LARGE: usize = 1 << 20;

/// BLAKE3 over each tensor's name, type, shape and digest in the order of the names, then over the configuration.
///
/// `tensors` are sorted by name. Each variable-length field is preceded by its length, so that no two models share an input.
pub(super) fn revision(tensors: &[(&str, &Stored)], config: &str) -> String {
    let digests: Vec<blake3::Hash> = tensors.par_iter().map(|(_, stored)| digest(stored)).collect();
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for ((name, stored), digest) in tensors.iter().zip(&digests) {
        let shape: Vec<u8> = stored.shape().iter().flat_map(|count| (*count as u64).to_le_bytes()).collect();
        field(name.as_bytes());
        field(stored.dtype().to_string().as_bytes());
        field(&shape);
        field(digest.as_bytes());
    }
    field(config.as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn digest(stored: &Stored) -> blake3::Hash {
    let bytes = stored.bytes();
    let mut hasher = blake3::Hasher::new();
    if bytes.len() > LARGE {
        hasher.update_rayon(&bytes)
    } else {
        hasher.update(&bytes)
    };
    hasher.finalize()
}
