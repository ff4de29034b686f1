//! How busy a batch is, as the model's thread last published it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::slots::{Budget, LatentSize};
use crate::step_times::{SMOOTHING, StepTime, StepTimes};

/// A snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Requests in the batch.
    pub running: usize,
    /// Latent pixels of all their rows.
    pub running_pixels: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Evaluations still to do for both together.
    pub remaining_evaluations: u64,
    /// Seconds until both are done, as evaluations of their sizes took; 0 before anything was measured.
    pub remaining_seconds: f64,
    /// Evaluations until the first of the running requests is finished.
    pub soonest_evaluations: usize,
    /// Sizes that take turns.
    pub groups: usize,
    /// Seconds of one evaluation, smoothed over the last ones; 0 before the first.
    pub step_seconds: f64,
    /// It takes no new work.
    pub draining: bool,
}

impl Load {
    /// When the next slot becomes free, as far as is known.
    pub(crate) fn next_slot(&self) -> Option<Duration> {
        let evaluations = self.soonest_evaluations.max(1) * self.groups.max(1);
        let seconds = self.step_seconds * evaluations as f64;
        (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// What one request still has to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remaining {
    pub(crate) size: LatentSize,
    pub(crate) rows: usize,
    pub(crate) evaluations: usize,
}

/// The part that only the thread knows: everything but what waits.
#[derive(Debug, Default)]
pub(crate) struct LoadCell(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    load: Load,
    running: Vec<Remaining>,
    most_pixels: Option<usize>,
    times: StepTimes,
}

impl LoadCell {
    pub(crate) fn read(&self) -> Load {
        self.lock().load
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut Load)) {
        update(&mut self.lock().load);
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

    /// Takes one more evaluation into the times by size and rows.
    pub(crate) fn timed(&self, time: &StepTime) {
        self.lock().times.record(time);
    }

    /// What the running requests still have to do.
    pub(crate) fn running(&self) -> Vec<Remaining> {
        self.lock().running.clone()
    }

    /// Tells what the running requests still have to do.
    pub(crate) fn set_running(&self, running: Vec<Remaining>) {
        self.lock().running = running;
    }

    /// Tells how many latent pixels run together.
    pub(crate) fn set_budget(&self, budget: Budget) {
        self.lock().most_pixels = Some(budget.pixels);
    }

    /// Seconds of one evaluation of so many rows of a size, as measured; 0 before anything was.
    pub(crate) fn evaluation_seconds(&self, size: LatentSize, rows: usize) -> f64 {
        self.lock().times.row_seconds(size, rows).unwrap_or(0.0) * rows as f64
    }

    /// Seconds of this work, as evaluations were measured to take with as many rows as the work and the budget give them.
    pub(crate) fn seconds(&self, work: &[Remaining]) -> f64 {
        let mut together: BTreeMap<LatentSize, usize> = BTreeMap::new();
        for request in work {
            *together.entry(request.size).or_default() += request.rows;
        }
        let known = self.lock();
        let seconds = work.iter().map(|request| {
            let most = known.most_pixels.unwrap_or(usize::MAX) / request.size.pixels().max(1);
            let rows = together[&request.size].min(most).max(request.rows);
            let row = known.times.row_seconds(request.size, rows).unwrap_or(0.0);
            row * request.rows.saturating_mul(request.evaluations) as f64
        });
        seconds.sum()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn work_takes_as_long_as_batches_of_its_size_were_measured_to_take() {
        let cell = LoadCell::default();
        let size = LatentSize { height: 8, width: 8 };
        let request = Remaining { size, rows: 2, evaluations: 10 };
        assert_eq!(cell.seconds(&[request]), 0.0, "nothing was measured yet");
        for (rows, seconds) in [(2, 1.0), (8, 2.0)] {
            cell.timed(&StepTime { size, rows, took: Duration::from_secs_f64(seconds) });
        }
        assert_eq!(cell.seconds(&[request]), 10.0);
        assert_eq!(cell.seconds(&[request; 4]), 20.0, "four share their evaluations");
        cell.set_budget(Budget { pixels: 2 * 64, bytes: usize::MAX, pictures: 8 });
        assert_eq!(cell.seconds(&[request; 4]), 40.0, "they come one after the other");
    }
}
