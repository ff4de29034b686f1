//! A caller's key: found in a call's metadata, kept and compared as a hash.
//!
//! Keys are long random texts, not passwords, so one round of SHA-256 is enough: there is nothing to guess. What is kept cannot be used
//! as a key, and which stored hash a key is compared with, and how far they agree, does not show in the time that it takes.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tonic::Status;
use tonic::metadata::MetadataMap;

pub(super) const KEY: &str = "x-api-key";
const AUTHORIZATION: &str = "authorization";
const SCHEME: &str = "Bearer ";
/// Characters of a key.
pub(super) const MAX_KEY: usize = 256;

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    pub(super) fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// As `sha256sum` writes it: 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Self(bytes))
    }

    /// Takes the same time wherever the two differ.
    pub(super) fn equals(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// A name for whoever has this key, too short to be the hash.
    pub(super) fn name(&self) -> String {
        self.0[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Not even the hash.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// The key of a call, if it has one.
///
/// # Errors
/// UNAUTHENTICATED for metadata that should be a key and is none; the message does not hold it.
pub(super) fn of(metadata: &MetadataMap) -> Result<Option<&str>, Status> {
    let malformed = |header: &str, what: &str| Status::unauthenticated(format!("{header}: {what}"));
    let text = |header: &'static str| -> Result<Option<&str>, Status> {
        let Some(value) = metadata.get(header) else { return Ok(None) };
        value.to_str().map(Some).map_err(|_| malformed(header, "holds more than visible ASCII characters"))
    };
    let (header, key) = match (text(KEY)?, text(AUTHORIZATION)?) {
        (Some(key), _) => (KEY, key),
        (None, Some(value)) => match value.strip_prefix(SCHEME) {
            Some(key) => (AUTHORIZATION, key),
            None => return Err(malformed(AUTHORIZATION, "is not of the scheme Bearer")),
        },
        (None, None) => return Ok(None),
    };
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(malformed(header, &format!("a key of {} characters, it must have 1 to {MAX_KEY}", key.len())));
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_sha256sum_writes() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hash::parse(abc), Some(Hash::of("abc")));
        assert_eq!(Hash::parse(&abc.to_uppercase()), Some(Hash::of("abc")));
        assert!(
            bool::from(Hash::of("abc").equals(&Hash::of("abc")))
                && !bool::from(Hash::of("abc").equals(&Hash::of("abd")))
        );
        for wrong in ["", &abc[1..], &abc.replace('b', "g"), &"é".repeat(32)] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", Hash::of("abc")).contains("ba"));
    }
}
