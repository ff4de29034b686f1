//! The file that names the clients.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable};

use super::Client;
use super::allowance::Limits;
use super::key::{Hash, MAX_KEY};
use crate::job::Priority;

const WEIGHTS: RangeInclusive<f64> = 0.01..=1000.0;
/// Of all limits: more than anybody needs, and no sum of them overflows.
const MAX_LIMIT: u32 = 1_000_000_000;

/// Those whom the file names.
#[derive(Debug)]
pub(super) struct Register(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    hash: Hash,
    revoked: bool,
    client: Client,
}

/// What a key is to a register.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    Client(&'a Client),
    Revoked,
    Unknown,
}

/// The file's text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    key_sha256: Option<String>,
    key: Option<String>,
    #[serde(default = "usual_weight")]
    weight: f64,
    max_priority: Option<Priority>,
    requests_per_minute: Option<u32>,
    max_running: Option<u32>,
    images_per_day: Option<u32>,
    #[serde(default)]
    revoked: bool,
}

fn usual_weight() -> f64 {
    1.0
}

impl Register {
    /// `max_priority` is that of clients of whom the file says nothing else.
    ///
    /// # Errors
    /// For a text that cannot be used; the message names the client and no key.
    pub(super) fn parse(text: &str, max_priority: Priority) -> anyhow::Result<Self> {
        // toml's own message would show the line, and with it a key.
        let file: File = toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.message()))?;
        let (mut entries, mut names, mut hashes) = (Vec::new(), HashSet::new(), HashSet::new());
        for (index, row) in file.client.into_iter().enumerate() {
            let named = format!("client {} ({:?})", index + 1, row.name);
            let entry = row.entry(max_priority).with_context(|| named.clone())?;
            ensure!(names.insert(entry.client.identity.clone()), "{named}: name stands there twice");
            ensure!(hashes.insert(entry.hash), "{named}: another client has the same key");
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// Whose key this is. Every entry is looked at, and each for as long as the others.
    pub(super) fn find(&self, key: &str) -> Found<'_> {
        let hash = Hash::of(key);
        let (mut found, mut at) = (Choice::from(0), 0u64);
        for (index, entry) in self.0.iter().enumerate() {
            let same = entry.hash.equals(&hash);
            at.conditional_assign(&(index as u64), same);
            found |= same;
        }
        match self.0.get(at as usize).filter(|_| found.into()) {
            Some(entry) if entry.revoked => Found::Revoked,
            Some(entry) => Found::Client(&entry.client),
            None => Found::Unknown,
        }
    }
}

impl Row {
    fn entry(self, max_priority: Priority) -> anyhow::Result<Entry> {
        let Self { name, weight, requests_per_minute, max_running, images_per_day, .. } = self;
        ensure!(!name.is_empty() && name.len() <= MAX_KEY, "name must have 1 to {MAX_KEY} characters");
        let hash = match (self.key_sha256, self.key) {
            (Some(hash), None) => {
                Hash::parse(&hash).context("key_sha256 must be the SHA-256 of its key, 64 hexadecimal digits")?
            }
            (None, Some(key)) => {
                ensure!(!key.is_empty() && key.len() <= MAX_KEY, "key must have 1 to {MAX_KEY} characters");
                tracing::warn!("clients_file: {name:?} has its key in plain text; its key_sha256 would do as well");
                Hash::of(&key)
            }
            (None, None) => bail!("it has no key; key_sha256 is the SHA-256 of one, and darkroom key makes both"),
            (Some(_), Some(_)) => bail!("it has both key_sha256 and key, and needs one of them"),
        };
        ensure!(WEIGHTS.contains(&weight), "weight = {weight}, it must be 0.01 to 1000");
        for (field, limit) in [
            ("requests_per_minute", requests_per_minute),
            ("max_running", max_running),
            ("images_per_day", images_per_day),
        ] {
            if let Some(limit) = limit {
                ensure!((1..=MAX_LIMIT).contains(&limit), "{field} = {limit}, it must be 1 to {MAX_LIMIT}");
            }
        }
        let client = Client {
            identity: format!("client {name}").into(),
            weight,
            max_priority: self.max_priority.unwrap_or(max_priority),
            limits: Limits { requests_per_minute, max_running, images_per_day },
        };
        Ok(Entry { hash, revoked: self.revoked, client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_refused_without_its_keys() {
        let error = |text: &str| format!("{:#}", Register::parse(text, Priority::High).unwrap_err());
        let entry = |rest: &str| format!("[[client]]\nname = \"a\"\nkey = \"s3cret\"\n{rest}");
        let two = |rest: &str| format!("{}{}", entry(""), entry("").replace("\"a\"", "\"b\"").replace("s3cret", rest));
        for (text, part) in [
            (entry("weight = 0"), "client 1 (\"a\"): weight = 0, it must be 0.01 to 1000"),
            (entry("weigth = 1"), "unknown field `weigth`"),
            (entry("max_priority = \"urgent\""), "unknown variant `urgent`"),
            (entry("images_per_day = 0"), "client 1 (\"a\"): images_per_day = 0, it must be 1 to 1000000000"),
            (entry("max_running = -1"), "invalid value"),
            (entry("key_sha256 = \"00\""), "it has both key_sha256 and key"),
            (
                entry("").replace("key =", "key_sha256 ="),
                "key_sha256 must be the SHA-256 of its key, 64 hexadecimal digits",
            ),
            (entry("").replace("key = \"s3cret\"", ""), "it has no key"),
            (two("s3cret"), "another client has the same key"),
            (format!("{}{}", entry(""), entry("").replace("s3cret", "t")), "name stands there twice"),
        ] {
            let error = error(&text);
            assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
        }
        assert!(Register::parse(&two("other"), Priority::High).is_ok());
    }

    #[test]
    fn a_key_is_found_by_its_hash_or_its_text_until_it_is_revoked() {
        let text = r#"
            [[client]]
            name = "a"
            key_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            images_per_day = 7
            [[client]]
            name = "b"
            key = "other"
            [[client]]
            name = "c"
            key = "lost"
            revoked = true
        "#;
        let register = Register::parse(text, Priority::Normal).unwrap();
        let name = |key: &str| match register.find(key) {
            Found::Client(client) => client.identity.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            ["abc", "other", "lost", "ab", ""].map(name),
            ["client a", "client b", "Revoked", "Unknown", "Unknown"]
        );
        // Its hash is no key.
        assert_eq!(name("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "Unknown");
        let Found::Client(client) = register.find("abc") else { panic!("known") };
        assert_eq!(client.limits, Limits { images_per_day: Some(7), ..Limits::default() });
        assert_eq!(Register::parse("", Priority::Normal).unwrap().find("abc"), Found::Unknown);
    }
}
