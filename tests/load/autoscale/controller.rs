//! What decides on replicas, as it would be installed: KEDA with the autoscaler that it makes, or an autoscaler alone.

use std::time::{Duration, Instant};

use super::hpa::{self, Hpa, SYNC_PERIOD};
use super::keda::{self, Keda};

/// How replicas are decided on.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Its `min` is at least 1: KEDA gives its autoscaler that, where `minReplicaCount` is 0. Its targets are of the queue and, where there
    /// is a second, of the load.
    pub hpa: hpa::Settings,
    /// `None`: the autoscaler is alone, with its metrics from Prometheus' adapter, and something is always left.
    pub keda: Option<keda::Settings>,
    /// The range of the load's rate.
    pub load_range: Duration,
}

/// What Prometheus says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// `sum(darkroom_queued_work_seconds)`.
    pub queued: f64,
    /// `sum(rate(darkroom_admitted_work_seconds_total[…]))`.
    pub load: f64,
}

/// A decision that changes something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// Replicas before.
    pub from: u32,
    /// Replicas that there shall be.
    pub to: u32,
}

/// Its memory, with the moments of its next looks.
pub struct Controller {
    hpa: Hpa,
    keda: Option<(Keda, Duration)>,
    next_sync: Instant,
    next_poll: Instant,
}

impl Controller {
    /// One whose looks begin at `begin`, KEDA's later than the autoscaler's by `shift`.
    #[must_use]
    pub fn new(scaling: &Scaling, begin: Instant, shift: Duration) -> Self {
        Self {
            hpa: Hpa::new(scaling.hpa.clone()),
            keda: scaling.keda.map(|settings| (Keda::new(settings), settings.polling)),
            next_sync: begin,
            next_poll: begin + shift,
        }
    }

    /// When it looks next.
    #[must_use]
    pub fn due(&self) -> Instant {
        if self.keda.is_some() { self.next_sync.min(self.next_poll) } else { self.next_sync }
    }

    /// Does the looks that are due by `now`. `signals` are what Prometheus says then, `replicas` what was last asked for.
    pub fn look(&mut self, signals: Signals, replicas: u32, now: Instant) -> Option<Scaled> {
        let mut wanted = replicas;
        if let Some((keda, polling)) = &mut self.keda
            && self.next_poll <= now
        {
            // The load's trigger has an activation that it never reaches: what is over keeps nobody.
            wanted = keda.poll(signals.queued, wanted, now);
            self.next_poll += *polling;
        }
        if self.next_sync <= now {
            wanted = self.hpa.sync(&[signals.queued, signals.load], wanted, now);
            self.next_sync += SYNC_PERIOD;
        }
        (wanted != replicas).then_some(Scaled { from: replicas, to: wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn played(scaling: &Scaling, metric: impl Fn(u64) -> f64, seconds: u64) -> Vec<(u64, u32)> {
        let begin = Instant::now();
        let mut controller = Controller::new(scaling, begin, 7 * SECOND);
        let (mut replicas, mut course) = (scaling.keda.map_or(1, |_| 0), Vec::new());
        while controller.due() < begin + Duration::from_secs(seconds) {
            let now = controller.due();
            let at = (now - begin).as_secs();
            if let Some(scaled) = controller.look(Signals { queued: metric(at), load: 0.0 }, replicas, now) {
                replicas = scaled.to;
                course.push((at, replicas));
            }
        }
        course
    }

    #[test]
    fn keda_starts_the_first_and_its_autoscaler_the_others() {
        let keda = Some(keda::Settings::USUAL);
        let scaling = Scaling { hpa: hpa::Settings::usual(1, 10, &[30.0]), keda, load_range: 120 * SECOND };
        let work = |at| if (40..100).contains(&at) { 300.0 } else { 0.0 };
        let course = played(&scaling, work, 900);
        // Polls are at 7, 37, 67, …; looks of the autoscaler at 0, 15, 30, …
        assert_eq!(course[..3], [(67, 1), (75, 5), (90, 10)]);
        // 300 s after the last look that saw work, at 90, and after the last such poll, at 97.
        assert_eq!(course[3..], [(390, 1), (427, 0)]);
    }

    #[test]
    fn an_autoscaler_alone_keeps_one() {
        let scaling = Scaling { hpa: hpa::Settings::usual(1, 10, &[30.0]), keda: None, load_range: 120 * SECOND };
        let course = played(&scaling, |at| if at < 20 { 100.0 } else { 0.0 }, 900);
        assert_eq!(course, [(0, 4), (315, 1)]);
    }
}
