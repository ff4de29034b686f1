//! Requests that are done, kept for a moment: who lost the connection just before the end gets the pictures without their
//! being made again. A plain struct that is told the time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of one that is kept besides its pictures and its text, roughly.
const OVERHEAD: usize = 1024;

/// What is kept, under its name.
#[derive(Debug)]
struct Kept<T> {
    serial: u64,
    value: T,
    bytes: usize,
    until: Instant,
}

/// Bounded in time and in bytes; what is oldest goes first.
#[derive(Debug)]
pub(crate) struct Finished<T> {
    time: Duration,
    most_bytes: usize,
    bytes: usize,
    kept: HashMap<Arc<str>, Kept<T>>,
    /// Names in the order in which they came. Those whose result is gone or replaced stay until it is their turn.
    order: VecDeque<(u64, Arc<str>)>,
    next_serial: u64,
}

impl<T> Finished<T> {
    pub(crate) fn new(time: Duration, most_bytes: usize) -> Self {
        Self { time, most_bytes, bytes: 0, kept: HashMap::new(), order: VecDeque::new(), next_serial: 0 }
    }

    /// Keeps `value` in place of an earlier one of its name; `bytes` are its pictures' and its text's. Says until when; `None` when
    /// it is too large.
    pub(crate) fn keep(&mut self, name: &str, value: T, bytes: usize, now: Instant) -> Option<Instant> {
        self.forget(name);
        let bytes = bytes + OVERHEAD;
        if bytes > self.most_bytes || self.time.is_zero() {
            return None;
        }
        let (name, until, serial) = (Arc::<str>::from(name), now + self.time, self.next_serial);
        self.next_serial += 1;
        self.bytes += bytes;
        self.order.push_back((serial, Arc::clone(&name)));
        self.kept.insert(name, Kept { serial, value, bytes, until });
        while self.bytes > self.most_bytes {
            self.drop_first();
        }
        Some(until)
    }

    /// What is kept under `name`.
    pub(crate) fn find(&mut self, name: &str, now: Instant) -> Option<&T> {
        self.expire(now);
        self.kept.get(name).map(|kept| &kept.value)
    }

    pub(crate) fn forget(&mut self, name: &str) {
        if let Some(kept) = self.kept.remove(name) {
            self.bytes -= kept.bytes;
        }
    }

    /// Drops whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((serial, name)) = self.order.front() {
            match self.kept.get(name).filter(|kept| kept.serial == *serial) {
                Some(kept) if kept.until > now => return,
                _ => self.drop_first(),
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_first(&mut self) {
        if let Some((serial, name)) = self.order.pop_front()
            && self.kept.get(&name).is_some_and(|kept| kept.serial == serial)
        {
            self.forget(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: Duration = Duration::from_secs(30);
    const MOST: usize = 100 + 2 * OVERHEAD;

    #[test]
    fn results_are_kept_for_a_while_and_replaced_by_name() {
        let (mut finished, now) = (Finished::new(TIME, MOST), Instant::now());
        assert_eq!(finished.keep("a", 1, 60, now), Some(now + TIME));
        assert_eq!(finished.find("a", now), Some(&1));
        finished.keep("a", 2, 10, now + TIME / 2);
        assert_eq!(finished.find("a", now + TIME), Some(&2));
        assert_eq!(finished.bytes(), OVERHEAD + 10);
        assert_eq!(finished.find("a", now + 2 * TIME), None);
        assert_eq!(finished.bytes(), 0);
        assert_eq!(finished.keep("large", 3, MOST + 1, now), None);
        assert_eq!(Finished::new(Duration::ZERO, MOST).keep("b", 1, 1, now), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut finished, now) = (Finished::new(TIME, MOST), Instant::now());
        for (name, bytes) in [("a", 50), ("b", 40), ("c", 30)] {
            finished.keep(name, name, bytes, now);
        }
        assert_eq!(finished.find("a", now), None);
        assert_eq!((finished.find("b", now).copied(), finished.bytes()), (Some("b"), 70 + 2 * OVERHEAD));
    }

    proptest! {
        #[test]
        fn the_bytes_add_up(keeps in prop::collection::vec((0u8..9, 0usize..70 + OVERHEAD, 0u64..20), 0..100)) {
            let (mut finished, mut now) = (Finished::new(TIME, MOST), Instant::now());
            for (name, bytes, pause) in keeps {
                now += Duration::from_secs(pause);
                finished.expire(now);
                finished.keep(&name.to_string(), (), bytes, now);
                prop_assert!(finished.bytes() <= MOST);
                prop_assert_eq!(finished.bytes(), finished.kept.values().map(|kept| kept.bytes).sum::<usize>());
                prop_assert!(finished.kept.values().all(|kept| kept.until > now));
                // Each result is in the order once, and nobody else for longer than a result is kept.
                let ordered = |(name, kept): (&Arc<str>, &Kept<()>)| {
                    finished.order.iter().filter(|(serial, other)| (*serial, other) == (kept.serial, name)).count() == 1
                };
                prop_assert!(finished.kept.iter().all(ordered));
            }
        }
    }
}
