//! What became of the requests, counted while they run, in memory that does not grow with them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use darkroom_client::load::Samples;
use darkroom_client::{Code, StageSeconds};

use crate::txt2img::code_name;

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// With its pictures, or as many as could be made.
    Completed(StageSeconds),
    /// Before it was let in, and how long the server asks to wait, if it does.
    Refused(Code, Option<Duration>),
    /// After that.
    Failed(Code),
}

/// All numbers so far. Times are in seconds, from when a request was due.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) offered: u64,
    pub(super) unsent: u64,
    pub(super) completed: u64,
    pub(super) refused: BTreeMap<String, Refusals>,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) images: u64,
    pub(super) failed_images: u64,
    pub(super) latency: Samples,
    pub(super) first_event: Samples,
    pub(super) refusal: Samples,
    pub(super) late: Samples,
    /// The server's account of completed requests.
    pub(super) server: Samples,
    pub(super) queue: Samples,
    pub(super) text_encoder: Samples,
    pub(super) denoiser: Samples,
    pub(super) vae: Samples,
    /// How long requests came, and from the start to the last answer.
    pub(super) sending: Duration,
    pub(super) lasted: Duration,
}

/// Requests that were not let in with one code.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    pub(super) count: u64,
    pub(super) without_delay: u64,
    /// Of those that were told one.
    pub(super) delays: Option<Delays>,
}

/// The times that refused requests were told to wait, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Delays {
    pub(super) min: f64,
    pub(super) max: f64,
    sum: f64,
    count: u64,
}

impl Figures {
    pub(super) fn refused(&self) -> u64 {
        self.refused.values().map(|refusals| refusals.count).sum()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Those that run; at the end, those that were cut off.
    pub(super) fn running(&self) -> u64 {
        self.offered.saturating_sub(self.unsent + self.completed + self.refused() + self.failed())
    }

    /// Over all of the time.
    pub(super) fn images_a_minute(&self) -> f64 {
        match self.lasted.as_secs_f64() {
            seconds if seconds > 0.0 => 60.0 * self.images as f64 / seconds,
            _ => 0.0,
        }
    }
}

impl Delays {
    fn of(delay: f64) -> Self {
        Self { min: delay, max: delay, sum: delay, count: 1 }
    }

    fn and(self, delay: f64) -> Self {
        let (min, max) = (self.min.min(delay), self.max.max(delay));
        Self { min, max, sum: self.sum + delay, count: self.count + 1 }
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// The figures, and all who add to them.
pub(super) struct Tally {
    begun: Instant,
    figures: Mutex<Figures>,
}

impl Tally {
    /// The test begins now.
    pub(super) fn start() -> Self {
        Self { begun: Instant::now(), figures: Mutex::default() }
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// A request was due and is sent now.
    pub(super) fn sent(&self, due: Instant) {
        let mut figures = self.lock();
        figures.offered += 1;
        figures.late.add(due.elapsed().as_secs_f64());
        figures.sending = due.saturating_duration_since(self.begun);
    }

    /// A request was due, and too many others are under way.
    pub(super) fn unsent(&self, due: Instant) {
        let mut figures = self.lock();
        figures.offered += 1;
        figures.unsent += 1;
        figures.sending = due.saturating_duration_since(self.begun);
    }

    /// The time in which requests come is over, whenever the last came.
    pub(super) fn over(&self, sending: Duration) {
        let mut figures = self.lock();
        figures.sending = sending;
        figures.lasted = figures.lasted.max(sending);
    }

    pub(super) fn image(&self) {
        self.lock().images += 1;
    }

    pub(super) fn image_failed(&self) {
        self.lock().failed_images += 1;
    }

    /// A request that was due then has come to its end now. `first_event` came so long after that.
    pub(super) fn ended(&self, due: Instant, first_event: Option<Duration>, end: &End) {
        let latency = due.elapsed().as_secs_f64();
        let mut figures = self.lock();
        figures.lasted = self.begun.elapsed();
        match end {
            End::Completed(seconds) => {
                figures.completed += 1;
                figures.latency.add(latency);
                if let Some(first) = first_event {
                    figures.first_event.add(first.as_secs_f64());
                }
                add(&mut figures.server, seconds.total);
                add(&mut figures.queue, seconds.queue);
                add(&mut figures.text_encoder, seconds.text_encoder);
                add(&mut figures.denoiser, seconds.denoiser);
                add(&mut figures.vae, seconds.vae);
            }
            End::Refused(code, delay) => {
                figures.refusal.add(latency);
                let refusals = figures.refused.entry(code_name(*code)).or_default();
                refusals.count += 1;
                match delay.map(|delay| delay.as_secs_f64()) {
                    Some(delay) => {
                        refusals.delays =
                            Some(refusals.delays.map_or_else(|| Delays::of(delay), |told| told.and(delay)));
                    }
                    None => refusals.without_delay += 1,
                }
            }
            End::Failed(code) => *figures.failed.entry(code_name(*code)).or_default() += 1,
        }
    }

    /// All of them, as they are now.
    pub(super) fn figures(&self) -> Figures {
        let mut figures = self.lock().clone();
        if figures.running() > 0 {
            // Their time has been used, too.
            figures.lasted = self.begun.elapsed();
        }
        figures
    }

    /// Offered, running, completed and refused so far.
    pub(super) fn so_far(&self) -> [u64; 4] {
        let figures = self.lock();
        [figures.offered, figures.running(), figures.completed, figures.refused()]
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes from outside may be no number.
fn add(samples: &mut Samples, seconds: f64) {
    if seconds.is_finite() {
        samples.add(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(total: f64) -> StageSeconds {
        StageSeconds { queue: 1.0, text_encoder: f64::NAN, denoiser: 2.0, vae: 0.5, total }
    }

    #[test]
    fn every_request_is_counted_once() {
        let tally = Tally::start();
        let due = tally.begun();
        (0..7).for_each(|_| tally.sent(due));
        tally.unsent(due + Duration::from_secs(3));
        tally.image();
        tally.ended(due, Some(Duration::from_millis(5)), &End::Completed(seconds(4.0)));
        tally.ended(due, None, &End::Completed(seconds(5.0)));
        let refused = |delay: Option<u64>| End::Refused(Code::ResourceExhausted, delay.map(Duration::from_secs));
        [Some(1), None, Some(5)].into_iter().for_each(|delay| tally.ended(due, None, &refused(delay)));
        tally.ended(due, None, &End::Failed(Code::Unavailable));

        let figures = tally.figures();
        assert_eq!((figures.offered, figures.unsent, figures.completed, figures.images), (8, 1, 2, 1));
        assert_eq!((figures.refused(), figures.failed(), figures.running()), (3, 1, 1));
        let refusals = &figures.refused["RESOURCE_EXHAUSTED"];
        let delays = refusals.delays.unwrap();
        assert_eq!((refusals.count, refusals.without_delay), (3, 1));
        assert_eq!((delays.min, delays.mean(), delays.max), (1.0, 3.0, 5.0));
        assert_eq!(figures.failed, BTreeMap::from([("UNAVAILABLE".to_owned(), 1)]));
        assert_eq!((figures.server.percentiles().max, figures.text_encoder.count()), (5.0, 0));
        assert_eq!((figures.latency.count(), figures.first_event.count(), figures.late.count()), (2, 1, 7));
        assert_eq!(figures.sending, Duration::from_secs(3));
    }
}
