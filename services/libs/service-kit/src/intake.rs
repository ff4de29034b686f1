//! Memory for requests that are coming in, bounded for the whole service and for each origin.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;

use crate::connections::origin::{Origin, share};
use crate::{Metrics, ServerConfig};

/// Who holds how many bytes. A plain struct.
#[derive(Debug)]
struct Ledger {
    most: usize,
    /// Most bytes of one origin.
    share: usize,
    held: usize,
    holders: HashMap<Origin, usize>,
}

impl Ledger {
    fn new(most: usize, share: usize) -> Self {
        Self { most, share, held: 0, holders: HashMap::new() }
    }

    /// Takes all of `bytes` or nothing.
    fn take(&mut self, origin: Origin, bytes: usize) -> bool {
        let mine = self.holders.get(&origin).copied().unwrap_or(0);
        if bytes > self.most - self.held || bytes > self.share - mine {
            return false;
        }
        self.held += bytes;
        self.holders.insert(origin, mine + bytes);
        true
    }

    /// Gives back what was taken.
    fn give(&mut self, origin: Origin, bytes: usize) {
        self.held -= bytes;
        if let Some(mine) = self.holders.get_mut(&origin) {
            *mine -= bytes;
            if *mine == 0 {
                self.holders.remove(&origin);
            }
        }
    }
}

/// The requests of one service that are not answered yet.
pub(crate) struct Intake {
    ledger: Mutex<Ledger>,
    gauge: Gauge,
}

impl Intake {
    pub(crate) fn new(config: &ServerConfig, metrics: &Metrics) -> Arc<Self> {
        let most = config.max_intake_mib.saturating_mul(1 << 20);
        let ledger = Mutex::new(Ledger::new(most, share(most, config.max_address_percent)));
        let gauge =
            metrics.gauge("intake_bytes", "Memory of requests that are coming in or wait for their answer", &[]);
        Arc::new(Self { ledger, gauge })
    }

    /// What one call holds, nothing yet.
    pub(crate) fn call(self: &Arc<Self>, origin: Origin) -> Arc<Holding> {
        Arc::new(Holding { intake: self.clone(), origin, bytes: AtomicUsize::new(0) })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes that one call holds, given back by drop.
pub(crate) struct Holding {
    intake: Arc<Intake>,
    origin: Origin,
    bytes: AtomicUsize,
}

impl Holding {
    /// False when there is no room for `bytes` more.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let taken = self.intake.ledger().take(self.origin, bytes);
        if taken {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
            self.intake.gauge.increment(bytes as f64);
        }
        taken
    }

    /// Gives back all but `bytes`.
    pub(crate) fn keep(&self, bytes: usize) {
        let given = self.bytes.load(Ordering::Acquire).saturating_sub(bytes);
        if given > 0 {
            self.bytes.fetch_sub(given, Ordering::AcqRel);
            self.intake.ledger().give(self.origin, given);
            self.intake.gauge.decrement(given as f64);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.keep(0);
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
