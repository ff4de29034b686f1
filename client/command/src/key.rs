//! `darkroom key`: a new key for a client, and its entry for the orchestrator's clients file, which holds only its hash.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// Tells where a key that was found somewhere belongs to.
const PREFIX: &str = "dk_";
/// As random as its hash is long.
const BYTES: usize = 32;

pub(crate) const EXAMPLE: &str = "\
The key is written to standard error, once, for the client; the entry to standard output, for the operator's file:
  darkroom key studio >> clients.toml
  darkroom-orchestrator --clients-file clients.toml --require-key

An entry can have more: weight, max_priority, requests_per_minute, max_running, images_per_day, revoked = true.";

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The client's name, as accounts and the audit log show it.
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
}

pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let mut bytes = [0; BYTES];
    OsRng.try_fill_bytes(&mut bytes).map_err(anyhow::Error::new)?;
    let key = format!("{PREFIX}{}", hexadecimal(&bytes));
    eprintln!("{key}");
    print!("{}", entry(&flags.name, &key));
    Ok(())
}

fn entry(name: &str, key: &str) -> String {
    format!("[[client]]\nname = \"{name}\"\nkey_sha256 = \"{}\"\n", hexadecimal(&Sha256::digest(key)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One that needs no escapes, in a file or a log.
fn name(text: &str) -> Result<String, String> {
    let fine = |letter: char| letter.is_alphanumeric() || "-_. @".contains(letter);
    if text.is_empty() || text.len() > 64 || !text.chars().all(fine) {
        return Err("it must be 1 to 64 letters, digits, spaces, or - _ . @".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_hash_and_not_the_key() {
        // FIPS 180-2, appendix B.1.
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(entry("a", "abc"), format!("[[client]]\nname = \"a\"\nkey_sha256 = \"{hash}\"\n"));
    }

    #[test]
    fn a_name_needs_no_escapes() {
        assert_eq!(name("Ana's studio"), Err("it must be 1 to 64 letters, digits, spaces, or - _ . @".into()));
        assert!(name("a\"\nkey = \"b").is_err() && name("").is_err());
        assert_eq!(name("büro-2 b@example.org"), Ok("büro-2 b@example.org".into()));
    }
}
