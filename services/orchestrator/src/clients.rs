//! Who asks: each client has a share of the denoisers, and a highest priority.
//!
//! A client is known by its key, in the call's metadata (`x-api-key`, or `authorization: Bearer …`), else by the address that it
//! calls from. An operator who names clients in a file gives each a key, a weight and a highest priority; then no other key is
//! taken. Without such a file a key is a name: whoever stands in front of Darkroom can tell its users apart by it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::job::Priority;

const KEY: &str = "x-api-key";
const AUTHORIZATION: &str = "authorization";
const SCHEME: &str = "Bearer ";
/// Characters of a key.
const MAX_KEY: usize = 256;
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// What stands for a client in the accounts.
pub(crate) type Identity = Arc<str>;

/// One who asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Client {
    pub(crate) identity: Identity,
    /// Its share is as large as its weight over that of all who want something.
    pub(crate) weight: f64,
    /// Requests above this are lowered to it.
    pub(crate) max_priority: Priority,
}

impl Client {
    /// Somebody with a share like everybody's.
    pub(crate) fn named(identity: &str) -> Self {
        Self { identity: identity.into(), weight: 1.0, max_priority: Priority::High }
    }
}

/// All who may ask.
#[derive(Debug)]
pub(crate) struct Clients {
    /// By key; `None` when any key is a name.
    known: Option<HashMap<String, Client>>,
    /// Of those who are not in the file.
    max_priority: Priority,
}

/// The file's text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    key: String,
    #[serde(default = "usual_weight")]
    weight: f64,
    #[serde(default)]
    max_priority: Option<Priority>,
}

fn usual_weight() -> f64 {
    1.0
}

impl Clients {
    /// Everybody is alike, and a key is a name.
    pub(crate) fn anybody(max_priority: Priority) -> Self {
        Self { known: None, max_priority }
    }

    /// Those whom the file names, and those without a key.
    ///
    /// # Errors
    /// When the file cannot be read or used; the message names it and the entry.
    pub(crate) fn read(file: &Path, max_priority: Priority) -> anyhow::Result<Self> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("clients_file: cannot read {shown}"))?;
        Self::parse(&text, max_priority).with_context(|| format!("clients_file: {shown}"))
    }

    pub(crate) fn parse(text: &str, max_priority: Priority) -> anyhow::Result<Self> {
        // toml's own message would show the line, and with it a key.
        let file: File = toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.message()))?;
        let mut known = HashMap::new();
        let mut names = std::collections::HashSet::new();
        for (index, entry) in file.client.into_iter().enumerate() {
            let Entry { name, key, weight, max_priority: highest } = entry;
            let named = format!("client {} ({name:?})", index + 1);
            ensure!(!name.is_empty() && name.len() <= MAX_KEY, "{named}: name must have 1 to {MAX_KEY} characters");
            ensure!(names.insert(name.clone()), "{named}: name stands there twice");
            ensure!(!key.is_empty() && key.len() <= MAX_KEY, "{named}: key must have 1 to {MAX_KEY} characters");
            ensure!(WEIGHTS.contains(&weight), "{named}: weight = {weight}, it must be 0.01 to 1000");
            let client = Client {
                identity: format!("client {name}").into(),
                weight,
                max_priority: highest.unwrap_or(max_priority),
            };
            ensure!(known.insert(key, client).is_none(), "{named}: another client has the same key");
        }
        Ok(Self { known: Some(known), max_priority })
    }

    /// Who made a call.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a key that the file does not have, or that is none.
    pub(crate) fn of(&self, metadata: &MetadataMap, peer: Option<SocketAddr>) -> Result<Client, Status> {
        let Some(key) = key(metadata)? else {
            let identity = peer.map_or_else(|| "nobody".into(), |peer| format!("peer {}", network(peer.ip())));
            return Ok(Client { max_priority: self.max_priority, ..Client::named(&identity) });
        };
        match &self.known {
            None => Ok(Client { max_priority: self.max_priority, ..Client::named(&format!("key {key}")) }),
            Some(known) => known.get(key).cloned().ok_or_else(|| {
                Status::unauthenticated(format!(
                    "{KEY}: no client of this server has this key; leave it out, or use another"
                ))
            }),
        }
    }
}

fn key(metadata: &MetadataMap) -> Result<Option<&str>, Status> {
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

/// An IPv6 host has as many addresses as it likes in its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[client]]
        name = "studio"
        key = "s3cret"
        weight = 2.5
        max_priority = "high"

        [[client]]
        name = "batch"
        key = "other"
    "#;

    fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.insert(*name, value.parse().unwrap());
        }
        metadata
    }

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_file_gives_shares_and_priorities() {
        let clients = Clients::parse(FILE, Priority::Normal).unwrap();
        let of = |pairs: &[(&'static str, &str)]| clients.of(&metadata(pairs), peer("10.0.0.1:5"));
        let studio = of(&[("x-api-key", "s3cret")]).unwrap();
        assert_eq!((&*studio.identity, studio.weight, studio.max_priority), ("client studio", 2.5, Priority::High));
        let batch = of(&[("authorization", "Bearer other")]).unwrap();
        assert_eq!((batch.weight, batch.max_priority), (1.0, Priority::Normal));
        assert_eq!(&*of(&[]).unwrap().identity, "peer 10.0.0.1");
        for wrong in [("x-api-key", "guess"), ("authorization", "Basic other"), ("authorization", "Bearer ")] {
            let status = of(&[wrong]).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            assert!(!status.message().contains("guess"), "{}", status.message());
        }
    }

    #[test]
    fn without_a_file_a_key_is_a_name() {
        let clients = Clients::anybody(Priority::High);
        let of =
            |pairs: &[(&'static str, &str)], from: &str| clients.of(&metadata(pairs), peer(from)).unwrap().identity;
        assert_eq!(&*of(&[("x-api-key", "me")], "10.0.0.1:5"), "key me");
        assert_eq!(of(&[], "[2001:db8:1:2:3::4]:1"), of(&[], "[2001:db8:1:2:ffff::9]:2"));
        assert_eq!(of(&[], "[::ffff:10.0.0.1]:1"), of(&[], "10.0.0.1:2"));
        assert!(clients.of(&metadata(&[("x-api-key", &"k".repeat(257))]), None).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_without_its_keys() {
        let error = |text: &str| format!("{:#}", Clients::parse(text, Priority::High).unwrap_err());
        let entry = |rest: &str| format!("[[client]]\nname = \"a\"\nkey = \"s3cret\"\n{rest}");
        for (text, part) in [
            (entry("weight = 0"), "client 1 (\"a\"): weight = 0, it must be 0.01 to 1000"),
            (entry("weigth = 1"), "unknown field `weigth`"),
            (entry("max_priority = \"urgent\""), "unknown variant `urgent`"),
            (format!("{}{}", entry(""), entry("").replace("\"a\"", "\"b\"")), "another client has the same key"),
            (format!("{}{}", entry(""), entry("").replace("s3cret", "t")), "name stands there twice"),
        ] {
            let error = error(&text);
            assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
        }
    }
}
