//! How busy a batch is, as the model's thread last published it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Weight of the newest evaluation in the smoothed step time: about the last ten count.
const SMOOTHING: f64 = 0.2;

/// A snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Requests in the batch.
    pub running: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Evaluations still to do for both together.
    pub remaining_evaluations: u64,
    /// Evaluations until the first of the running requests is finished.
    pub soonest_evaluations: usize,
    /// Sizes that take turns.
    pub groups: usize,
    /// Seconds of one evaluation, smoothed over the last ones; 0 before the first.
    pub step_seconds: f64,
}

impl Load {
    /// When the next slot becomes free, as far as is known.
    pub(crate) fn next_slot(&self) -> Option<Duration> {
        let evaluations = self.soonest_evaluations.max(1) * self.groups.max(1);
        let seconds = self.step_seconds * evaluations as f64;
        (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// The part that only the thread knows: everything but what waits.
#[derive(Debug, Default)]
pub(crate) struct LoadCell(Mutex<Load>);

impl LoadCell {
    pub(crate) fn read(&self) -> Load {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut Load)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes one more evaluation into the smoothed step time.
    pub(crate) fn evaluated(&self, took: Duration) {
        self.update(|load| {
            let took = took.as_secs_f64();
            load.step_seconds = if load.step_seconds == 0.0 {
                took
            } else {
                load.step_seconds + SMOOTHING * (took - load.step_seconds)
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_a_slot_counts_the_turns_of_other_sizes() {
        let load = Load { soonest_evaluations: 4, groups: 2, step_seconds: 0.5, ..Load::default() };
        assert_eq!(load.next_slot(), Some(Duration::from_secs(4)));
        assert_eq!(Load::default().next_slot(), None, "nothing was measured yet");
    }

    #[test]
    fn the_step_time_starts_with_the_first_and_follows_the_last() {
        let cell = LoadCell::default();
        cell.evaluated(Duration::from_secs(2));
        assert_eq!(cell.read().step_seconds, 2.0);
        for _ in 0..60 {
            cell.evaluated(Duration::from_secs(1));
        }
        assert!((cell.read().step_seconds - 1.0).abs() < 1e-3);
    }
}
