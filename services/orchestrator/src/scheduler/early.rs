//! Requests that wait for any worker at all: nobody says what they cost, but they are work, by an estimate.
//!
//! They stand in the queue's own books. So what bounds the number of requests that wait bounds these too, no client can fill the places
//! for the others, and the autoscaling signal rises with the first of them. When a worker comes they are let in like any other.

use std::time::Instant;

use super::work::Work;
use super::{Refusal, Scheduler};
use crate::clients::{Client, Identity};

/// What one of them holds of the books.
#[derive(Debug)]
pub(crate) struct Early {
    identity: Identity,
    work: u64,
}

impl Scheduler {
    /// Counts a request that waits for a worker, or says why it may not wait. What holds its place is given back with
    /// [`Scheduler::leave_early`].
    ///
    /// # Errors
    /// [`Refusal::Full`].
    pub(crate) fn enter_early(&mut self, client: &Client, work: Work, now: Instant) -> Result<Early, Refusal> {
        let identity = client.identity.clone();
        // Where nothing was measured, the bound in time would hold one guess against another.
        let bound = if self.speed.is_measured() { self.bound() } else { f64::INFINITY };
        let entrance = self.waiting.let_in(&identity, work.total(), bound, self.speed.throughput(), now);
        entrance.map_err(Refusal::Full)?;
        self.waiting.add(&identity, work.total(), self.bound());
        Ok(Early { identity, work: work.total() })
    }

    /// It waits for a worker no longer: there is one, or it has gone.
    pub(crate) fn leave_early(&mut self, early: &Early) {
        self.waiting.take(&early.identity, early.work, true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Arrival, Limits, WorkerSpeed};
    use super::*;
    use crate::job::Priority;

    const WORK: Work = Work { images: 2, evaluations: 10, pixels: 100, priority: Priority::Normal };

    fn limits(requests: usize) -> Limits {
        Limits { requests, time: Duration::from_secs(100), ageing: Duration::from_secs(60) }
    }

    #[test]
    fn they_are_work_before_any_worker_was_seen_and_none_when_they_leave() {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(limits(8), 0.001, now);
        let early = scheduler.enter_early(&Client::named("a"), WORK, now).unwrap();
        assert_eq!((scheduler.work_seconds(), scheduler.depth()), (2.0, 1));
        assert_eq!(scheduler.grant(now), None);
        scheduler.leave_early(&early);
        assert_eq!((scheduler.work_seconds(), scheduler.depth()), (0.0, 0));
    }

    #[test]
    fn the_seconds_are_those_of_the_last_workers_when_all_have_gone() {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(limits(8), 1.0, now);
        let worker = WorkerSpeed { batch_pixels: 200, picture: (100, 0.1), batch_seconds: 0.2 };
        scheduler.set_workers(&[worker; 3]);
        scheduler.set_workers(&[]);
        scheduler.enter_early(&Client::named("a"), WORK, now).unwrap();
        // 2000 at 1000 a second, which is one worker's.
        assert_eq!(scheduler.work_seconds(), 2.0);
    }

    #[test]
    fn they_are_bounded_as_the_queue_is_and_no_client_fills_it() {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(limits(8), 1.0, now);
        let mut fill = |name: &str| {
            let client = Client::named(name);
            (0..).take_while(|_| scheduler.enter_early(&client, WORK, now).is_ok()).count()
        };
        // Guesses of 2000 s each: it is their number that counts.
        assert_eq!((fill("a"), fill("b"), fill("c"), fill("d")), (6, 1, 1, 0));

        let worker = WorkerSpeed { batch_pixels: 100, picture: (100, 1.0), batch_seconds: 1.0 };
        let mut known = Scheduler::new(limits(1000), 1.0, now);
        known.set_workers(&[worker]);
        known.set_workers(&[]);
        let client = Client::named("a");
        let held = (0..).map_while(|_| known.enter_early(&client, WORK, now).ok()).count();
        assert_eq!(held, 3, "20 s each, of 100 s that may wait, and a quarter for others");
    }

    #[test]
    fn when_a_worker_comes_they_are_let_in_with_what_they_have_waited() {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(limits(1), 1.0, now);
        let client = Client::named("a");
        let early = scheduler.enter_early(&client, WORK, now).unwrap();
        let later = now + Duration::from_secs(40);
        scheduler.set_workers(&[WorkerSpeed { batch_pixels: 100, picture: (100, 1.0), batch_seconds: 1.0 }]);
        scheduler.leave_early(&early);
        let waited = later - now;
        let arrival = Arrival { client, work: WORK, deadline: None, besides: Duration::ZERO, waited };
        let ticket = scheduler.push(arrival, later).unwrap();
        let grant = scheduler.grant(later).unwrap();
        assert_eq!((grant.ticket, grant.waited), (ticket, Some(waited)));
    }
}
