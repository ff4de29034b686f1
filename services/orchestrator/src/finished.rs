//! Requests that are done, kept for a moment: who lost the connection just before the end gets the pictures without their
//! being made again. A plain struct that is told the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is kept, under its name.
#[derive(Debug)]
struct Kept<T> {
    name: String,
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
    /// The oldest first.
    kept: VecDeque<Kept<T>>,
}

impl<T> Finished<T> {
    pub(crate) fn new(time: Duration, most_bytes: usize) -> Self {
        Self { time, most_bytes, bytes: 0, kept: VecDeque::new() }
    }

    /// Keeps `value` in place of an earlier one of its name. Says until when; `None` when it is too large.
    pub(crate) fn keep(&mut self, name: &str, value: T, bytes: usize, now: Instant) -> Option<Instant> {
        self.forget(name);
        if bytes > self.most_bytes || self.time.is_zero() {
            return None;
        }
        let until = now + self.time;
        self.bytes += bytes;
        self.kept.push_back(Kept { name: name.to_owned(), value, bytes, until });
        while self.bytes > self.most_bytes {
            self.drop_oldest();
        }
        Some(until)
    }

    /// What is kept under `name`.
    pub(crate) fn find(&mut self, name: &str, now: Instant) -> Option<&T> {
        self.expire(now);
        self.kept.iter().find(|kept| kept.name == name).map(|kept| &kept.value)
    }

    pub(crate) fn forget(&mut self, name: &str) {
        if let Some(at) = self.kept.iter().position(|kept| kept.name == name)
            && let Some(kept) = self.kept.remove(at)
        {
            self.bytes -= kept.bytes;
        }
    }

    /// Drops whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|kept| kept.until <= now) {
            self.drop_oldest();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_oldest(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    #[test]
    fn results_are_kept_for_a_while_and_replaced_by_name() {
        let (mut finished, now) = (Finished::new(TIME, 100), Instant::now());
        assert_eq!(finished.keep("a", 1, 60, now), Some(now + TIME));
        assert_eq!(finished.find("a", now), Some(&1));
        finished.keep("a", 2, 10, now + TIME / 2);
        assert_eq!(finished.find("a", now + TIME), Some(&2));
        assert_eq!(finished.bytes(), 10);
        assert_eq!(finished.find("a", now + 2 * TIME), None);
        assert_eq!(finished.bytes(), 0);
        assert_eq!(finished.keep("large", 3, 101, now), None);
        assert_eq!(Finished::new(Duration::ZERO, 100).keep("b", 1, 1, now), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut finished, now) = (Finished::new(TIME, 100), Instant::now());
        for (name, bytes) in [("a", 50), ("b", 40), ("c", 30)] {
            finished.keep(name, name, bytes, now);
        }
        assert_eq!(finished.find("a", now), None);
        assert_eq!((finished.find("b", now).copied(), finished.bytes()), (Some("b"), 70));
    }

    proptest! {
        #[test]
        fn the_bytes_add_up(keeps in prop::collection::vec((0u8..9, 0usize..70, 0u64..20), 0..100)) {
            let (mut finished, mut now) = (Finished::new(TIME, 100), Instant::now());
            for (name, bytes, pause) in keeps {
                now += Duration::from_secs(pause);
                finished.expire(now);
                finished.keep(&name.to_string(), (), bytes, now);
                prop_assert!(finished.bytes() <= 100);
                prop_assert_eq!(finished.bytes(), finished.kept.iter().map(|kept| kept.bytes).sum::<usize>());
                prop_assert!(finished.kept.iter().all(|kept| kept.until > now));
            }
        }
    }
}
