//! KEDA for one Prometheus trigger: between none and some it decides by itself, among some it leaves the word to the autoscaler that it made.
//!
//! Sources: "Scaling Deployments, StatefulSets & Custom Resources" and "Activating and Scaling thresholds" in KEDA's documentation, and
//! `RequestScale`, `scaleToZero` and `scaleFromZero` in `pkg/scaling/executor/scale_scaledobjects.go` of kedacore/keda. The autoscaler
//! asks KEDA's metrics server at each of its looks, and that asks Prometheus then (`useCachedMetrics` is off by default).

use std::time::{Duration, Instant};

/// The settings of a `ScaledObject` beyond those of its autoscaler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `pollingInterval`.
    pub polling: Duration,
    /// `cooldownPeriod`: so long after it was last active nothing is left.
    pub cooldown: Duration,
    /// `activationThreshold`: only a metric above it is active.
    pub activation: f64,
}

impl Settings {
    /// KEDA's own.
    pub const USUAL: Self =
        Self { polling: Duration::from_secs(30), cooldown: Duration::from_secs(300), activation: 0.0 };
}

/// What KEDA knows of one object whose `minReplicaCount` is 0.
#[derive(Clone, Copy, Debug)]
pub struct Keda {
    settings: Settings,
    active: Option<Instant>,
}

impl Keda {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, active: None }
    }

    /// One look: how many replicas there shall be, of those that there are.
    pub fn poll(&mut self, metric: f64, replicas: u32, now: Instant) -> u32 {
        if metric > self.settings.activation {
            self.active = Some(now);
            return replicas.max(1);
        }
        let cooling = self.active.is_some_and(|active| active + self.settings.cooldown >= now);
        if cooling { replicas } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn work_brings_one_and_its_end_takes_all_when_it_has_cooled_down() {
        let (mut keda, now) = (Keda::new(Settings::USUAL), Instant::now());
        assert_eq!(keda.poll(0.0, 0, now), 0);
        assert_eq!(keda.poll(0.5, 0, now), 1);
        assert_eq!(keda.poll(400.0, 1, now + 30 * SECOND), 1, "more than one is the autoscaler's to say");
        assert_eq!(keda.poll(0.0, 7, now + 330 * SECOND), 7);
        assert_eq!(keda.poll(0.0, 7, now + 331 * SECOND), 0);
    }

    /// The documentation's example: with threshold 10 and activation 50, 40 messages are nothing, though the autoscaler would want four.
    #[test]
    fn the_activation_has_priority_over_the_threshold() {
        let mut keda = Keda::new(Settings { activation: 50.0, ..Settings::USUAL });
        let now = Instant::now();
        assert_eq!(keda.poll(40.0, 4, now), 0);
        let mut hpa = super::super::hpa::Hpa::new(super::super::hpa::Settings::usual(1, 10, &[10.0]));
        assert_eq!(hpa.sync(&[40.0], 1, now), 4);
        assert_eq!(keda.poll(50.0, 0, now), 0, "only what is above it is active");
        assert_eq!(keda.poll(50.1, 0, now), 1);
    }

    #[test]
    fn what_somebody_else_started_has_nothing_to_cool_down_from() {
        assert_eq!(Keda::new(Settings::USUAL).poll(0.0, 3, Instant::now()), 0);
    }
}
