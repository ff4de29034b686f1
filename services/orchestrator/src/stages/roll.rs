//! All workers of one stage, and the choice among them.
//!
//! A choice looks at each worker as it is at that moment, so that one that has just failed gets nothing; it copies nothing, and
//! allocates nothing, because a large fleet makes it often.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use super::choice::choose;
use super::{Errand, Lease, Worker};
use crate::selection::Identity;

/// What an evaluation is taken to last while no worker of the stage has measured one: any number orders them alike.
const UNMEASURED: f64 = 1.0;

/// See the module's text.
#[derive(Default)]
pub(super) struct Roll {
    workers: Vec<Arc<Worker>>,
    /// Counts choices.
    turn: u64,
}

impl Roll {
    pub(super) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    pub(super) fn find(&self, address: &str) -> Option<&Arc<Worker>> {
        self.workers.iter().find(|worker| worker.address == address)
    }

    pub(super) fn add(&mut self, worker: Arc<Worker>) {
        self.workers.push(worker);
    }

    pub(super) fn remove(&mut self, worker: &Arc<Worker>) {
        self.workers.retain(|other| !Arc::ptr_eq(other, worker));
    }

    /// Workers that take work of `pin` now.
    pub(super) fn serving(&self, pin: &Identity) -> impl Iterator<Item = &Arc<Worker>> {
        self.workers.iter().filter(|worker| worker.serves(pin))
    }

    /// The worker with the least work before it; `None` when nobody takes such work.
    pub(super) fn lease(&mut self, errand: &Errand<'_>, now: Instant) -> Option<Lease> {
        let mean = OnceCell::new();
        let typical = || *mean.get_or_init(|| self.typical(errand.pin));
        let chosen = choose(self.workers.iter().filter_map(|worker| {
            worker.candidate(errand.pin, errand.failed, now, typical).map(|candidate| (worker, candidate))
        }))?;
        self.turn += 1;
        Some(Lease::take(chosen, errand.evaluations, self.turn, now))
    }

    /// What an evaluation takes where it was measured.
    fn typical(&self, pin: &Identity) -> f64 {
        let measured = self.serving(pin).filter_map(|worker| worker.step_seconds());
        let (sum, count) = measured.fold((0.0, 0u32), |(sum, count), seconds| (sum + seconds, count + 1));
        if count == 0 { UNMEASURED } else { sum / f64::from(count) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use darkroom_service_kit::channel;

    use super::*;
    use crate::stages::ledger::Load;
    use crate::stages::worker::Away;
    use crate::stages::{Info, Stage};
    use crate::tests::fakes;

    fn worker(address: &str) -> Arc<Worker> {
        let worker = Worker::new(Stage::Denoiser, address.into(), channel::lazy("127.0.0.1:1").unwrap());
        worker.set_ready(Info::Denoiser(fakes::denoiser_info()));
        Arc::new(worker)
    }

    fn roll(addresses: &[&str]) -> Roll {
        Roll { workers: addresses.iter().map(|address| worker(address)).collect(), turn: 0 }
    }

    fn load(step_seconds: f64, remaining_seconds: f64) -> Load {
        Load { step_seconds, remaining_seconds, ..Load::default() }
    }

    /// Whom work of `evaluations` goes to.
    fn chosen(roll: &mut Roll, failed: &[&str], evaluations: u64) -> Option<Lease> {
        let pin = Identity::of(&Info::Denoiser(fakes::denoiser_info()));
        let failed: BTreeSet<String> = failed.iter().map(ToString::to_string).collect();
        let errand = Errand { stage: Stage::Denoiser, pin: &pin, failed: &failed, evaluations };
        roll.lease(&errand, Instant::now())
    }

    #[tokio::test]
    async fn work_that_was_sent_counts_at_once_and_no_longer_when_it_ends() {
        let mut roll = roll(&["a", "b"]);
        let first = chosen(&mut roll, &[], 4).unwrap();
        let second = chosen(&mut roll, &[], 1).unwrap();
        assert_eq!([first.worker().address.as_str(), second.worker().address.as_str()], ["a", "b"]);
        let third = chosen(&mut roll, &[], 1).unwrap();
        assert_eq!(third.worker().address, "b");
        drop(first);
        assert_eq!(chosen(&mut roll, &[], 1).unwrap().worker().address, "a");
    }

    #[tokio::test]
    async fn who_has_measured_nothing_counts_as_the_others() {
        let mut roll = roll(&["a", "b"]);
        let now = Instant::now();
        roll.find("a").unwrap().answered(Some(load(4.0, 9.0)), now);
        // 3 evaluations of 4 s each are more than the 9 s at the other.
        let first = chosen(&mut roll, &[], 3).unwrap();
        assert_eq!(first.worker().address, "b");
        assert_eq!(chosen(&mut roll, &[], 1).unwrap().worker().address, "a");
    }

    #[tokio::test]
    async fn nobody_who_is_away_leaving_or_different_gets_work() {
        let mut roll = roll(&["a", "b", "c", "d"]);
        let workers = roll.workers().to_vec();
        workers[0].suspect("reset");
        workers[1].set_retired(true);
        let mut other = fakes::denoiser_info();
        other.stage.as_mut().unwrap().revision = "fedcba".into();
        workers[2].set_ready(Info::Denoiser(other));
        for _ in 0..3 {
            assert_eq!(chosen(&mut roll, &[], 1).unwrap().worker().address, "d");
        }
        // Who failed at it is better than nobody.
        assert_eq!(chosen(&mut roll, &["d"], 1).unwrap().worker().address, "d");
        workers[3].set_away(Away::Unreachable, "gone".into());
        assert!(chosen(&mut roll, &[], 1).is_none());
    }
}
