//! The tries of one piece of work: who gets it next, who has failed it, and whether and when it may be tried again.
//!
//! A worker that is full has failed at nothing: asking another costs no try, and where all are full, because other orchestrators
//! fill them too, the work waits and asks again. What was admitted is not lost to a crowd.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use darkroom_service_kit::status;
use rand::Rng;
use tokio::time::sleep;
use tonic::Status;

use super::calls::{Calls, limit, refusal};
use super::fault::{Failure, Fault, passed};
use super::retry::{Got, Tries};
use super::{Errand, Lease, Stage};
use crate::selection::Identity;

/// Pauses before full workers are asked again: what they say themselves, within this.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_secs(2);

/// See the module's text.
pub(crate) struct Attempts<'a> {
    calls: &'a Calls,
    stage: Stage,
    pin: &'a Identity,
    /// What it costs; 1 in stages that count calls.
    evaluations: u64,
    deadline: Option<Instant>,
    tries: Tries,
    /// Addresses that failed it.
    failed: BTreeSet<String>,
    /// The last failure, for the message.
    last: Option<Failure>,
    crowd: Option<Crowd>,
}

/// Workers have been full.
struct Crowd {
    since: Instant,
    /// Workers that said so since the last pause.
    asked: u32,
}

impl<'a> Attempts<'a> {
    /// Work for workers of `pin`: it pays into the budget of tries.
    pub(crate) fn new(
        calls: &'a Calls,
        stage: Stage,
        pin: &'a Identity,
        evaluations: u64,
        deadline: Option<Instant>,
    ) -> Self {
        let tries = calls.begun();
        Self { calls, stage, pin, evaluations, deadline, tries, failed: BTreeSet::new(), last: None, crowd: None }
    }

    /// A worker for the next try, waiting for one as long as work that has begun may.
    ///
    /// # Errors
    /// That there is none; after a try, what became of that.
    pub(crate) async fn lease(&self) -> Result<Lease, Status> {
        let patience = limit(self.calls.recovery_wait, self.deadline);
        let lease = self.calls.stages.lease_within(&self.errand(), patience).await;
        lease.map_err(|error| {
            let status = if passed(self.deadline) { status::deadline_exceeded() } else { refusal(&error) };
            match &self.last {
                Some(last) => last.clone().given_up(self.tries.made(), status.message()),
                None => status,
            }
        })
    }

    /// Who failed at the work before it got here may be well again.
    pub(crate) fn got_further(&mut self) {
        self.failed.clear();
        self.crowd = None;
    }

    /// The worker at `address` leaves: nothing went wrong, and it costs no try.
    pub(crate) fn left(&mut self, address: String) {
        self.failed.insert(address);
    }

    /// The try at `address` has failed. Returns when the next one may be made.
    ///
    /// # Errors
    /// The answer for the client, when none may.
    pub(crate) async fn failed(&mut self, address: String, failure: Failure, got: Got) -> Result<(), Status> {
        self.failed.insert(address);
        match failure.fault {
            Fault::Final => return Err(failure.status),
            Fault::Busy => self.wait_in_crowd(&failure).await?,
            _ => {
                self.crowd = None;
                self.calls.may_go_on(&mut self.tries, &failure, got)?;
            }
        }
        self.last = Some(failure);
        Ok(())
    }

    async fn wait_in_crowd(&mut self, failure: &Failure) -> Result<(), Status> {
        let now = Instant::now();
        let untried = self.calls.stages.has_untried(&self.errand());
        let crowd = self.crowd.get_or_insert(Crowd { since: now, asked: 0 });
        crowd.asked += 1;
        // In a large fleet a few are asked, not all.
        if untried && crowd.asked < self.calls.max_tries {
            return Ok(());
        }
        if now.duration_since(crowd.since) >= self.calls.recovery_wait {
            return Err(failure.status.clone());
        }
        crowd.asked = 0;
        self.failed.clear();
        sleep(limit(pause(&failure.status), self.deadline)).await;
        if passed(self.deadline) { Err(status::deadline_exceeded()) } else { Ok(()) }
    }

    fn errand(&self) -> Errand<'_> {
        Errand { stage: self.stage, pin: self.pin, failed: &self.failed, evaluations: self.evaluations }
    }
}

/// As the worker says, and not when all others come again.
fn pause(status: &Status) -> Duration {
    status::retry_after(status)
        .unwrap_or(LEAST_PAUSE)
        .clamp(LEAST_PAUSE, MOST_PAUSE)
        .mul_f64(rand::rng().random_range(0.5..1.5))
}
