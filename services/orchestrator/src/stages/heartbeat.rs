//! How long this process did not run: time in which it was stopped, or its machine slept, is no silence of a worker's.
//!
//! One task beats for all streams. What it misses, nobody could hear.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Between two beats.
const PULSE: Duration = Duration::from_millis(100);
/// A beat that is so late says that this process did not run.
const OVERSLEPT: Duration = PULSE;

/// A plain struct that is told the time.
#[derive(Debug)]
struct Beats {
    /// The next one.
    due: Instant,
    /// Time that was missed before.
    missed: Duration,
}

impl Beats {
    fn new(now: Instant) -> Self {
        Self { due: now + PULSE, missed: Duration::ZERO }
    }

    fn beat(&mut self, now: Instant) {
        self.missed = self.missed(now);
        self.due = now + PULSE;
    }

    /// All time that was missed until now. Whoever wakes before the beat does after a long sleep knows it too.
    fn missed(&self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.due);
        if late >= OVERSLEPT { self.missed + late } else { self.missed }
    }
}

/// See the module's text.
pub(crate) struct Heartbeat(Mutex<Beats>);

/// A moment, by the time that this process ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    at: Instant,
    missed: Duration,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Beats::new(Instant::now())))
    }

    /// Beats until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            let due = self.beats().due;
            sleep_until(due.into()).await;
            self.beats().beat(Instant::now());
        }
    }

    pub(super) fn moment(&self, at: Instant) -> Moment {
        Moment { at, missed: self.beats().missed(at) }
    }

    /// How long this process ran between `then` and `now`.
    pub(super) fn since(&self, then: Moment, now: Instant) -> Duration {
        let missed = self.beats().missed(now).saturating_sub(then.missed);
        now.saturating_duration_since(then.at).saturating_sub(missed)
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_that_nobody_ran_is_missed_whoever_wakes_first() {
        let start = Instant::now();
        let heartbeat = Heartbeat(Mutex::new(Beats::new(start)));
        let mut now = start;
        for _ in 0..10 {
            now += PULSE;
            heartbeat.beats().beat(now);
        }
        let heard = heartbeat.moment(now);
        assert_eq!(heartbeat.since(heard, now + PULSE), PULSE);
        // Stopped for 30 seconds after the next beat was set.
        let woken = now + PULSE + 30 * SECOND;
        assert_eq!(heartbeat.since(heard, woken), PULSE);
        heartbeat.beats().beat(woken);
        assert_eq!(heartbeat.since(heard, woken), PULSE);
        assert_eq!(heartbeat.since(heard, woken + PULSE), 2 * PULSE);
        // What was heard since has missed nothing.
        let heard = heartbeat.moment(woken);
        assert_eq!(heartbeat.since(heard, woken + PULSE), PULSE);
    }

    #[test]
    fn a_beat_that_is_a_little_late_misses_nothing() {
        let start = Instant::now();
        let mut beats = Beats::new(start);
        let mut now = start;
        for _ in 0..10 {
            now += PULSE + OVERSLEPT / 2;
            beats.beat(now);
        }
        assert_eq!(beats.missed(now), Duration::ZERO);
    }
}
