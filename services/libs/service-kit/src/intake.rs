//! How many calls a service takes at once, and how much memory their requests: for all together, and for each origin.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use tonic::Status;

use crate::connections::origin::{Origin, share};
use crate::{Metrics, ServerConfig, status};

/// A client that found no room may try again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// Who holds how much of something. A plain struct.
#[derive(Debug)]
struct Ledger {
    most: usize,
    /// Most of one origin.
    share: usize,
    held: usize,
    holders: HashMap<Origin, usize>,
}

impl Ledger {
    fn new(most: usize, share: usize) -> Self {
        Self { most, share, held: 0, holders: HashMap::new() }
    }

    /// Takes all of `amount` or nothing.
    fn take(&mut self, origin: Origin, amount: usize) -> bool {
        let mine = self.holders.get(&origin).copied().unwrap_or(0);
        if amount > self.most - self.held || amount > self.share - mine {
            return false;
        }
        self.held += amount;
        self.holders.insert(origin, mine + amount);
        true
    }

    /// Gives back what was taken.
    fn give(&mut self, origin: Origin, amount: usize) {
        self.held -= amount;
        if let Some(mine) = self.holders.get_mut(&origin) {
            *mine -= amount;
            if *mine == 0 {
                self.holders.remove(&origin);
            }
        }
    }
}

/// A ledger that all calls share.
pub(crate) struct Bound {
    ledger: Mutex<Ledger>,
    gauge: Gauge,
    /// What is said to who gets nothing.
    full: &'static str,
}

impl Bound {
    fn new(most: usize, percent: u8, gauge: Gauge, full: &'static str) -> Arc<Self> {
        Arc::new(Self { ledger: Mutex::new(Ledger::new(most, share(most, percent))), gauge, full })
    }

    /// What one call holds, nothing yet.
    pub(crate) fn holding(self: &Arc<Self>, origin: Origin) -> Holding {
        Holding { bound: self.clone(), origin, held: AtomicUsize::new(0) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a bound that one call holds, given back by drop.
pub(crate) struct Holding {
    bound: Arc<Bound>,
    origin: Origin,
    held: AtomicUsize,
}

impl Holding {
    /// Takes `amount` more.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when there is not so much.
    pub(crate) fn take(&self, amount: usize) -> Result<(), Status> {
        if !self.bound.ledger().take(self.origin, amount) {
            return Err(status::exhausted(self.bound.full, RETRY));
        }
        self.held.fetch_add(amount, Ordering::AcqRel);
        self.bound.gauge.increment(amount as f64);
        Ok(())
    }

    /// Gives back all but `amount`.
    pub(crate) fn keep(&self, amount: usize) {
        let given = self.held.load(Ordering::Acquire).saturating_sub(amount);
        if given > 0 {
            self.held.fetch_sub(given, Ordering::AcqRel);
            self.bound.ledger().give(self.origin, given);
            self.bound.gauge.decrement(given as f64);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// What one service takes in.
#[derive(Clone)]
pub(crate) struct Intake {
    /// Calls, until they end.
    pub(crate) calls: Arc<Bound>,
    /// Bytes of requests, until their answers begin.
    pub(crate) bytes: Arc<Bound>,
}

impl Intake {
    pub(crate) fn new(config: &ServerConfig, metrics: &Metrics) -> Self {
        let percent = config.max_address_percent;
        let calls = metrics.gauge("calls", "Calls that have begun and not ended", &[]);
        let bytes =
            metrics.gauge("intake_bytes", "Memory of requests that are coming in or wait for their answer", &[]);
        let most_bytes = config.max_intake_mib.saturating_mul(1 << 20);
        Self {
            calls: Bound::new(config.max_calls, percent, calls, "other calls hold all places there are (max_calls)"),
            bytes: Bound::new(most_bytes, percent, bytes, "other requests hold all memory there is (max_intake_mib)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn origin(number: u8) -> Origin {
        Origin::of(([192, 0, 2, number], 1).into())
    }

    #[test]
    fn one_origin_leaves_room_for_others() {
        let mut ledger = Ledger::new(100, 75);
        assert!(ledger.take(origin(1), 70));
        assert!(!ledger.take(origin(1), 6));
        assert!(ledger.take(origin(2), 30));
        assert!(!ledger.take(origin(2), 1));
        ledger.give(origin(1), 70);
        assert!(ledger.take(origin(2), 45));
    }

    proptest! {
        #[test]
        fn nobody_holds_more_than_is_there(
            most in 1..1000usize, percent in 1..=100u8, takes in prop::collection::vec((0..3u8, 0..400usize, any::<bool>()), 0..60),
        ) {
            let limit = share(most, percent);
            let mut ledger = Ledger::new(most, limit);
            let mut held: BTreeMap<u8, usize> = BTreeMap::new();
            for (number, bytes, gives) in takes {
                let mine = held.entry(number).or_default();
                if gives {
                    ledger.give(origin(number), *mine);
                    *mine = 0;
                } else if ledger.take(origin(number), bytes) {
                    *mine += bytes;
                }
                prop_assert!(held.values().all(|mine| *mine <= limit));
                prop_assert_eq!(ledger.held, held.values().sum::<usize>());
                prop_assert!(ledger.held <= most);
            }
        }
    }
}
