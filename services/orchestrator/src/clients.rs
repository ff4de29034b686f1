//! Who asks: each client has a share of the denoisers, a highest priority, and limits.
//!
//! A client is known by its key, in the call's metadata (`x-api-key`, or `authorization: Bearer …`), else by the address that it
//! calls from. An operator who names clients in a file gives each the hash of a key, a weight, a highest priority and limits; then no
//! other key is taken. The file is read again when it changes, which is how a key is revoked: new calls are refused, what runs goes on.
//! Without such a file a key is a name: whoever stands in front of Darkroom can tell its users apart by it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use darkroom_service_kit::{Reloading, status};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::job::Priority;
use crate::metrics::OrchestratorMetrics;
use allowance::{Limits, Over, Usage};
use key::{Hash, KEY};
use register::{Found, Register};

mod allowance;
mod key;
mod register;

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
    pub(crate) limits: Limits,
}

impl Client {
    /// Somebody with a share like everybody's, and no limits of its own.
    pub(crate) fn named(identity: &str) -> Self {
        Self { identity: identity.into(), weight: 1.0, max_priority: Priority::High, limits: Limits::default() }
    }
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// No key, where one is needed.
    Missing,
    /// A key that nobody has.
    Unknown,
    /// A key that was taken back.
    Revoked,
    /// Something that is no key.
    Malformed,
}

impl Stranger {
    pub(crate) const ALL: [Self; 4] = [Self::Missing, Self::Unknown, Self::Revoked, Self::Malformed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Malformed => "malformed",
        }
    }
}

/// Who may ask.
#[derive(Debug)]
pub(crate) struct Clients {
    /// `None` when any key is a name.
    known: Option<Reloading<Register>>,
    /// Of those who are not in the file.
    max_priority: Priority,
    /// Nobody without a key.
    require_key: bool,
}

impl Clients {
    /// Everybody is alike, and a key is a name.
    pub(crate) fn anybody(max_priority: Priority) -> Self {
        Self { known: None, max_priority, require_key: false }
    }

    /// Those whom the file names, and those without a key.
    ///
    /// # Errors
    /// When the file cannot be read or used; the message names it and the entry.
    pub(crate) fn read(file: &Path, max_priority: Priority) -> anyhow::Result<Self> {
        let path = file.to_owned();
        let read = move || {
            let shown = path.display();
            let text = std::fs::read_to_string(&path).with_context(|| format!("clients_file: cannot read {shown}"))?;
            Register::parse(&text, max_priority).with_context(|| format!("clients_file: {shown}"))
        };
        let known = Reloading::new("the clients", vec![file.to_owned()], read)?;
        Ok(Self { known: Some(known), ..Self::anybody(max_priority) })
    }

    /// The same, without those who have no key if `require_key`.
    pub(crate) fn requiring_keys(self, require_key: bool) -> Self {
        Self { require_key, ..self }
    }

    /// Who made a call.
    ///
    /// # Errors
    /// UNAUTHENTICATED and why, without the key.
    pub(crate) fn of(&self, metadata: &MetadataMap, peer: Option<SocketAddr>) -> Result<Client, (Stranger, Status)> {
        let key = key::of(metadata).map_err(|status| (Stranger::Malformed, status))?;
        let refused = |why: Stranger, message: &str| (why, Status::unauthenticated(format!("{KEY}: {message}")));
        let Some(key) = key else {
            if self.require_key {
                return Err(refused(Stranger::Missing, "this server takes no calls without a key"));
            }
            let identity = peer.map_or_else(|| "nobody".into(), |peer| format!("peer {}", network(peer.ip())));
            return Ok(Client { max_priority: self.max_priority, ..Client::named(&identity) });
        };
        let Some(known) = &self.known else {
            // A key may be secret all the same.
            let identity = format!("key {}", Hash::of(key).name());
            return Ok(Client { max_priority: self.max_priority, ..Client::named(&identity) });
        };
        match known.get().find(key) {
            Found::Client(client) => Ok(client.clone()),
            Found::Revoked => Err(refused(Stranger::Revoked, "this key was revoked; ask the operator for another")),
            Found::Unknown if self.require_key => {
                Err(refused(Stranger::Unknown, "no client of this server has this key"))
            }
            Found::Unknown => {
                Err(refused(Stranger::Unknown, "no client of this server has this key; leave it out, or use another"))
            }
        }
    }
}

/// What clients have had of what they may have. Clones are the same.
#[derive(Clone)]
pub(crate) struct Allowances {
    usage: Arc<Mutex<Usage>>,
    metrics: Arc<OrchestratorMetrics>,
}

impl Allowances {
    pub(crate) fn new(metrics: Arc<OrchestratorMetrics>) -> Self {
        Self { usage: Arc::default(), metrics }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED for one too many, with the time to try again.
    pub(crate) fn call(&self, client: &Client) -> Result<(), Status> {
        let counted = self.usage().call(client, Instant::now());
        counted.map_err(|over| self.over(client, over))
    }

    /// Counts a new request for `images`, until the permit is dropped.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED for one too many, with the time to try again where there is one.
    pub(crate) fn enter(&self, client: &Client, images: u32) -> Result<Permit, Status> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let entered = self.usage().enter(client, images, Instant::now(), unix);
        let counted = entered.map_err(|over| self.over(client, over))?;
        let counted = counted.then(|| (self.clone(), client.identity.clone(), unix));
        Ok(Permit { counted, unmade: images })
    }

    fn over(&self, client: &Client, over: Over) -> Status {
        self.metrics.over_quota(over.limit);
        status::over_quota(&client.identity, over.to_string(), over.retry_after)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's part of what its client may have.
pub(crate) struct Permit {
    /// Where, for whom and when; `None` for a client without limits.
    counted: Option<(Allowances, Identity, u64)>,
    unmade: u32,
}

impl Permit {
    /// One of its pictures was made, and stays counted.
    pub(crate) fn made(&mut self) {
        self.unmade = self.unmade.saturating_sub(1);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((allowances, identity, unix)) = &self.counted {
            allowances.usage().leave(identity, self.unmade, *unix);
        }
    }
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

#[cfg(any(test, feature = "fuzzing"))]
impl Clients {
    /// Those of a file with this text.
    pub(crate) fn parse(text: &str, max_priority: Priority) -> anyhow::Result<Self> {
        let text = text.to_owned();
        let known = Reloading::new("the clients", Vec::new(), move || Register::parse(&text, max_priority))?;
        Ok(Self { known: Some(known), ..Self::anybody(max_priority) })
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

        [[client]]
        name = "gone"
        key = "lost"
        revoked = true
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
        for (wrong, why) in [
            (("x-api-key", "guess"), Stranger::Unknown),
            (("x-api-key", "lost"), Stranger::Revoked),
            (("authorization", "Basic other"), Stranger::Malformed),
            (("authorization", "Bearer "), Stranger::Malformed),
        ] {
            let (stranger, status) = of(&[wrong]).unwrap_err();
            assert_eq!((stranger, status.code()), (why, tonic::Code::Unauthenticated));
            assert!(!status.message().contains("guess"), "{}", status.message());
        }
    }

    #[test]
    fn where_keys_are_required_nobody_comes_without() {
        let clients = Clients::parse(FILE, Priority::Normal).unwrap().requiring_keys(true);
        assert!(clients.of(&metadata(&[("x-api-key", "other")]), None).is_ok());
        let (stranger, status) = clients.of(&metadata(&[]), peer("10.0.0.1:5")).unwrap_err();
        assert_eq!((stranger, status.code()), (Stranger::Missing, tonic::Code::Unauthenticated));
    }

    #[test]
    fn without_a_file_a_key_is_a_name_that_does_not_show() {
        let clients = Clients::anybody(Priority::High);
        let of =
            |pairs: &[(&'static str, &str)], from: &str| clients.of(&metadata(pairs), peer(from)).unwrap().identity;
        let me = of(&[("x-api-key", "me")], "10.0.0.1:5");
        assert_eq!(me, of(&[("authorization", "Bearer me")], "10.0.0.2:5"));
        assert!(me != of(&[("x-api-key", "you")], "10.0.0.1:5") && !me.contains("me"), "{me}");
        assert_eq!(of(&[], "[2001:db8:1:2:3::4]:1"), of(&[], "[2001:db8:1:2:ffff::9]:2"));
        assert_eq!(of(&[], "[::ffff:10.0.0.1]:1"), of(&[], "10.0.0.1:2"));
        assert!(clients.of(&metadata(&[("x-api-key", &"k".repeat(257))]), None).is_err());
    }
}
