//! What Prometheus knows of the orchestrators, and what it answers to the two queries that are scaled by.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::controller::Signals;

/// What one scrape found.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    queued: f64,
    admitted: f64,
}

/// As many samples as its longest range needs.
#[derive(Clone, Debug)]
pub struct Prometheus {
    range: Duration,
    samples: VecDeque<Sample>,
}

impl Prometheus {
    /// One that has scraped nothing, and takes rates over `range`.
    #[must_use]
    pub fn new(range: Duration) -> Self {
        Self { range, samples: VecDeque::new() }
    }

    /// A scrape.
    pub fn scraped(&mut self, queued: f64, admitted: f64, at: Instant) {
        while self.samples.front().is_some_and(|sample| at - sample.at > self.range) {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, queued, admitted });
    }

    /// The last sample of the queue, and the slope of what was let in.
    #[must_use]
    pub fn signals(&self, now: Instant) -> Signals {
        let mut within = self.samples.iter().filter(|sample| now - sample.at < self.range);
        let (first, last) = (within.next(), self.samples.back());
        let load = match (first, last) {
            (Some(first), Some(last)) if last.at > first.at => {
                (last.admitted - first.admitted) / (last.at - first.at).as_secs_f64()
            }
            _ => 0.0,
        };
        Signals { queued: last.map_or(0.0, |sample| sample.queued), load }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_the_last_sample_and_the_load_a_slope() {
        let (mut prometheus, now) = (Prometheus::new(Duration::from_secs(60)), Instant::now());
        assert_eq!(prometheus.signals(now), Signals::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        for look in 0..10u32 {
            prometheus.scraped(f64::from(look), 45.0 * f64::from(look), at(15 * u64::from(look)));
        }
        assert_eq!(prometheus.signals(at(140)), Signals { queued: 9.0, load: 3.0 });
        assert_eq!(prometheus.signals(at(1000)), Signals { queued: 9.0, load: 0.0 }, "nothing within the range");
    }
}
