//! Pictures that are made and not yet let go, or that requests begin from: bounded in bytes, for all clients together and for each.
//!
//! A client that does not fetch what it asked for keeps it in memory until its connection is given up. It gets no more work done
//! while it has too much here, and others keep room: one may hold three times what stays free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use darkroom_service_kit::status;
use metrics::Gauge;
use tonic::Status;

use crate::clients::Identity;

/// Of what stays free.
const SHARE: usize = 3;
/// Whoever reads has read in this time.
const RETRY: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

/// See the module's text.
pub(crate) struct Results {
    kind: Kind,
    most: usize,
    held: Mutex<Held>,
    gauge: Gauge,
}

/// What is kept.
enum Kind {
    Results,
    Inputs,
}

#[derive(Default)]
struct Held {
    all: usize,
    by: HashMap<Identity, usize>,
}

/// What one request's pictures take, given back by drop.
pub(crate) struct Shelf {
    results: Arc<Results>,
    client: Identity,
    bytes: usize,
}

impl Results {
    /// Room for pictures that are made.
    pub(crate) fn new(most: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { kind: Kind::Results, most, held: Mutex::default(), gauge })
    }

    /// Room for pictures that requests begin from.
    pub(crate) fn inputs(most: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { kind: Kind::Inputs, most, held: Mutex::default(), gauge })
    }

    /// Whether pictures may be made for `client`.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with when to come again.
    pub(crate) fn room(&self, client: &Identity) -> Result<(), Status> {
        let held = self.held();
        let own = held.by.get(client).copied().unwrap_or(0);
        let free = self.most.saturating_sub(held.all);
        if free > 0 && own <= free.saturating_mul(SHARE) {
            return Ok(());
        }
        let (own, all, most) = (own / MIB, held.all / MIB, self.most / MIB);
        let (what, advice) = match self.kind {
            Kind::Results => (format!("results of {all} MiB wait to be fetched"), "read your streams to their end"),
            Kind::Inputs => {
                (format!("pictures of {all} MiB are kept for requests"), "wait until some of yours are done")
            }
        };
        let message = format!(
            "{what}, {own} MiB of them this client's; this server keeps {most} MiB, and a client's may be {SHARE} times what is left \
             for others: {advice}"
        );
        Err(status::exhausted(message, RETRY))
    }

    /// An empty one.
    pub(crate) fn shelf(self: &Arc<Self>, client: &Identity) -> Shelf {
        Shelf { results: Arc::clone(self), client: Arc::clone(client), bytes: 0 }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more picture.
    pub(crate) fn put(&mut self, bytes: usize) {
        let mut held = self.results.held();
        held.all += bytes;
        *held.by.entry(Arc::clone(&self.client)).or_default() += bytes;
        self.bytes += bytes;
        self.results.gauge.set(held.all as f64);
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.results.held();
        held.all -= self.bytes;
        if let Some(own) = held.by.get_mut(&self.client) {
            *own -= self.bytes;
            if *own == 0 {
                held.by.remove(&self.client);
            }
        }
        self.results.gauge.set(held.all as f64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    fn client(name: usize) -> Identity {
        format!("client {name}").into()
    }

    fn filled(results: &Arc<Results>, client: &Identity, bytes: usize) -> Shelf {
        let mut shelf = results.shelf(client);
        shelf.put(bytes);
        shelf
    }

    #[test]
    fn who_fetches_nothing_gets_nothing_more_and_others_do() {
        let results = Results::new(100 * MIB, Gauge::noop());
        let [lazy, other] = [client(0), client(1)];
        let first = filled(&results, &lazy, 75 * MIB);
        assert!(results.room(&lazy).is_ok());
        let second = filled(&results, &lazy, MIB);
        let status = results.room(&lazy).unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().starts_with("results of 76 MiB wait to be fetched, 76 MiB of them"), "{status:?}");
        assert!(status::retry_after(&status).is_some());
        assert!(results.room(&other).is_ok());
        drop(first);
        assert!(results.room(&lazy).is_ok());
        drop(second);
        assert!(results.held().by.is_empty());
    }

    #[test]
    fn when_all_is_full_nobody_gets_more() {
        let results = Results::new(MIB, Gauge::noop());
        let _full = filled(&results, &client(0), MIB);
        assert!(results.room(&client(1)).is_err());
    }

    proptest! {
        #[test]
        fn the_bytes_add_up(puts in prop::collection::vec((0usize..3, 0usize..5, 0usize..1000), 0..60)) {
            let results = Results::new(MIB, Gauge::noop());
            let mut shelves: Vec<Shelf> = (0..5).map(|number| results.shelf(&client(number % 3))).collect();
            for (name, at, bytes) in puts {
                match bytes {
                    0..100 => shelves[at] = results.shelf(&client(name)),
                    _ => shelves[at].put(bytes),
                }
                let held = results.held();
                prop_assert_eq!(held.all, shelves.iter().map(|shelf| shelf.bytes).sum::<usize>());
                for name in (0..3).map(client) {
                    let own: usize = shelves.iter().filter(|shelf| shelf.client == name).map(|shelf| shelf.bytes).sum();
                    prop_assert_eq!(held.by.get(&name).copied().unwrap_or(0), own);
                }
            }
        }
    }
}
