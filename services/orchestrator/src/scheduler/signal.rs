//! What denoisers are scaled by: the work there is, and how fast it comes.

use super::Scheduler;

impl Scheduler {
    /// Seconds that one denoiser needs for all that waits or runs: known without any.
    pub(crate) fn work_seconds(&self) -> f64 {
        self.seconds(self.waiting.work() + self.running_work)
    }

    /// The same of all that was ever let in. What it grows by in a second is how many denoisers are kept busy.
    pub(crate) fn admitted_seconds(&self) -> f64 {
        self.admitted
    }

    /// Of so many latent pixels × evaluations.
    pub(super) fn seconds(&self, work: u64) -> f64 {
        work as f64 / self.speed.worker_throughput()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::{Arrival, Limits, Work, WorkerSpeed};
    use super::*;
    use crate::clients::Client;
    use crate::job::Priority;

    #[test]
    fn what_was_let_in_counts_once_and_for_good() {
        let now = Instant::now();
        let limits = Limits { requests: 1, time: Duration::from_secs(100), ageing: Duration::from_secs(60) };
        let mut scheduler = Scheduler::new(limits, 1.0, now);
        scheduler.set_workers(&[WorkerSpeed { batch_pixels: 100, picture: (100, 1.0), batch_seconds: 1.0 }; 2]);
        let work = Work { images: 1, evaluations: 10, pixels: 100, priority: Priority::Normal };
        let zero = Duration::ZERO;
        let client = Client::named("a");
        let arrival = Arrival { client: client.clone(), work, deadline: None, besides: zero, waited: zero };
        let early = scheduler.enter_early(&client, work, now).unwrap();
        assert_eq!(scheduler.admitted_seconds(), 0.0, "it may still go");
        scheduler.leave_early(&early);
        // Two run, one waits, and one is refused.
        let tickets: Vec<_> = (0..4)
            .filter_map(|_| {
                let ticket = scheduler.push(arrival.clone(), now).ok();
                while scheduler.grant(now).is_some() {}
                ticket
            })
            .collect();
        assert_eq!((tickets.len(), scheduler.admitted_seconds(), scheduler.work_seconds()), (3, 30.0, 30.0));
        scheduler.leave(tickets[2]);
        assert_eq!((scheduler.admitted_seconds(), scheduler.work_seconds()), (30.0, 20.0));
    }
}
