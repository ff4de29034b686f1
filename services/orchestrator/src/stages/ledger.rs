//! The work before one worker: what it last reported, and what we have sent there since. A plain struct that is told the time.

use std::time::{Duration, Instant};

/// What a worker says of its work.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Load {
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) remaining_evaluations: u64,
    /// Latent pixels of all rows in the batch.
    pub(crate) running_pixels: u64,
    /// 0: nothing was measured yet.
    pub(crate) step_seconds: f64,
    pub(crate) remaining_seconds: f64,
    /// Of an evaluation of one guided picture of the default size, and of a full batch; 0: nothing was measured yet.
    pub(super) picture_seconds: f64,
    pub(super) batch_seconds: f64,
}

/// A piece of work that we have sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    id: u64,
    evaluations: u64,
    at: Instant,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    report: Option<(Load, Instant)>,
    /// When a report last told of anything new.
    moved: Option<Instant>,
    /// What the last report cannot know of, in the order of its numbers.
    sent: Vec<Sent>,
    /// Evaluations of all of it.
    sent_evaluations: u64,
    next_id: u64,
}

/// The work before a worker, in what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ahead {
    /// Seconds, as reported and passed since.
    reported: f64,
    /// Evaluations that no report knows of yet.
    sent: u64,
    /// Seconds of one.
    step: Option<f64>,
}

impl Ahead {
    /// In seconds. `typical` is what an evaluation takes where this worker has not measured it.
    pub(super) fn seconds(&self, typical: impl FnOnce() -> f64) -> f64 {
        if self.sent == 0 {
            return self.reported;
        }
        self.reported + self.sent as f64 * self.step.unwrap_or_else(typical)
    }
}

impl Ledger {
    /// A report that was asked for at `asked`: whatever was sent before is in it.
    pub(super) fn reported(&mut self, load: Load, asked: Instant) {
        let before = self.report.replace((sane(load), asked));
        if before.is_none_or(|(before, _)| before != sane(load)) {
            self.moved = Some(asked);
        }
        self.sent.retain(|sent| sent.at > asked);
        self.sent_evaluations = self.sent.iter().map(|sent| sent.evaluations).sum();
    }

    /// Work goes there. Its number is for [`Ledger::ended`].
    pub(super) fn sent(&mut self, evaluations: u64, now: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.sent.push(Sent { id, evaluations, at: now });
        self.sent_evaluations += evaluations;
        id
    }

    /// Of that work so many evaluations are left.
    pub(super) fn left(&mut self, id: u64, evaluations: u64) {
        if let Ok(at) = self.sent.binary_search_by_key(&id, |sent| sent.id) {
            let before = std::mem::replace(&mut self.sent[at].evaluations, evaluations);
            self.sent_evaluations = self.sent_evaluations - before + evaluations;
        }
    }

    /// That work is done, or given up.
    pub(super) fn ended(&mut self, id: u64) {
        if let Ok(at) = self.sent.binary_search_by_key(&id, |sent| sent.id) {
            self.sent_evaluations -= self.sent.remove(at).evaluations;
        }
    }

    /// The work before the worker.
    pub(super) fn ahead(&self, now: Instant) -> Ahead {
        let reported = self.report.map_or(0.0, |(load, at)| {
            (load.remaining_seconds - now.saturating_duration_since(at).as_secs_f64()).max(0.0)
        });
        Ahead { reported, sent: self.sent_evaluations, step: self.step_seconds() }
    }

    /// What an evaluation takes there; `None` while it has not measured it.
    pub(super) fn step_seconds(&self) -> Option<f64> {
        self.report.map(|(load, _)| load.step_seconds).filter(|step| *step > 0.0)
    }

    /// What an evaluation of one picture alone and of a full batch takes there; 0 while unmeasured.
    pub(super) fn evaluation_seconds(&self) -> (f64, f64) {
        self.report.map_or((0.0, 0.0), |(load, _)| (load.picture_seconds, load.batch_seconds))
    }

    /// What it last said.
    pub(super) fn load(&self) -> Option<Load> {
        self.report.map(|(load, _)| load)
    }

    /// How long its reports have said the same; `None` while it has given none.
    pub(super) fn unchanged_for(&self, now: Instant) -> Option<Duration> {
        self.moved.map(|moved| now.saturating_duration_since(moved))
    }
}

/// A report's numbers come from outside: what is no number of seconds counts as none.
fn sane(load: Load) -> Load {
    let seconds = |value: f64| if value.is_finite() && value > 0.0 { value } else { 0.0 };
    Load {
        step_seconds: seconds(load.step_seconds),
        remaining_seconds: seconds(load.remaining_seconds),
        picture_seconds: seconds(load.picture_seconds),
        batch_seconds: seconds(load.batch_seconds),
        ..load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backlog(ledger: &Ledger, typical: f64, now: Instant) -> f64 {
        ledger.ahead(now).seconds(|| typical)
    }

    fn load(step_seconds: f64, remaining_seconds: f64) -> Load {
        Load { running: 1, step_seconds, remaining_seconds, remaining_evaluations: 10, ..Load::default() }
    }

    #[test]
    fn a_report_replaces_what_was_sent_before_it() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.sent(10, now);
        // Nothing is measured: the others' time counts.
        assert_eq!(backlog(&ledger, 0.5, now), 5.0);
        ledger.sent(4, now + 2 * SECOND);
        ledger.reported(load(2.0, 30.0), now + SECOND);
        assert_eq!(backlog(&ledger, 0.5, now + SECOND), 30.0 + 4.0 * 2.0);
        // The report ages, the work that it did not see stays.
        assert_eq!(backlog(&ledger, 0.5, now + 11 * SECOND), 20.0 + 8.0);
        assert_eq!(backlog(&ledger, 0.5, now + 100 * SECOND), 8.0);
    }

    #[test]
    fn work_that_gets_on_is_less_work() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let first = ledger.sent(4, now);
        ledger.sent(4, now);
        ledger.left(first, 1);
        assert_eq!(ledger.ahead(now).seconds(|| 1.0), 5.0);
        ledger.ended(first);
        assert_eq!(ledger.ahead(now).seconds(|| 1.0), 4.0);
        ledger.left(first, 3);
        assert_eq!(ledger.ahead(now).seconds(|| 1.0), 4.0);
    }

    #[test]
    fn ended_work_is_no_work() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let (first, _second) = (ledger.sent(3, now), ledger.sent(2, now));
        ledger.ended(first);
        ledger.ended(first);
        assert_eq!(backlog(&ledger, 1.0, now), 2.0);
    }

    #[test]
    fn numbers_that_are_none_count_as_nothing() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.reported(load(f64::NAN, f64::INFINITY), now);
        assert_eq!((ledger.step_seconds(), backlog(&ledger, 1.0, now)), (None, 0.0));
    }

    #[test]
    fn reports_that_say_the_same_are_noticed() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.unchanged_for(now), None);
        for second in 0..10 {
            ledger.reported(load(1.0, 30.0), now + second * SECOND);
        }
        assert_eq!(ledger.unchanged_for(now + 9 * SECOND), Some(9 * SECOND));
        ledger.reported(Load { remaining_evaluations: 9, ..load(1.0, 30.0) }, now + 10 * SECOND);
        assert_eq!(ledger.unchanged_for(now + 11 * SECOND), Some(SECOND));
    }
}
