//! Kubernetes' HorizontalPodAutoscaler for external metrics with a target per replica, as a plain struct that is told the time.
//!
//! It does what the controller does, in its order: replicas by the metric, within the tolerance none; the stabilisation windows; the
//! rate policies; the bounds. Sources: "Horizontal Pod Autoscaling" in Kubernetes' documentation, its sections on the algorithm and on
//! scaling behaviour, and where that leaves a choice open `pkg/controller/podautoscaler` of kubernetes/kubernetes:
//! `GetExternalPerPodMetricReplicas` in `replica_calculator.go`, and `stabilizeRecommendationWithBehaviors`,
//! `calculateScaleUpLimitWithScalingRules` and `calculateScaleDownLimitWithBehaviors` in `horizontal.go`.

use std::time::{Duration, Instant};

/// How much replicas may change within a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// So many.
    Pods(u32),
    /// So many of a hundred of those that there were when the period began.
    Percent(u32),
}

/// One of a direction's policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// What it allows.
    pub change: Change,
    /// Within how long.
    pub period: Duration,
}

/// Which of several policies holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Select {
    /// `Max`: the one that allows most.
    Most,
    /// `Min`: the one that allows least.
    Least,
    /// `Disabled`: none allows anything.
    Nothing,
}

/// One direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Of all recommendations within it the least change is taken.
    pub window: Duration,
    /// How fast.
    pub policies: Vec<Policy>,
    /// Which policy holds.
    pub select: Select,
}

/// The object's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Of each metric for each replica. The metric that asks for most has its way.
    pub targets: Vec<f64>,
    /// A ratio to the target so near to 1 changes nothing.
    pub tolerance: f64,
    /// To more.
    pub up: Rules,
    /// To fewer.
    pub down: Rules,
}

/// Between two looks: `--horizontal-pod-autoscaler-sync-period`.
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

impl Settings {
    /// With Kubernetes' own tolerance and behaviour.
    #[must_use]
    pub fn usual(min: u32, max: u32, targets: &[f64]) -> Self {
        let (all, four) = (Change::Percent(100), Change::Pods(4));
        let policy = |change| Policy { change, period: Duration::from_secs(15) };
        let up = Rules { window: Duration::ZERO, policies: vec![policy(all), policy(four)], select: Select::Most };
        let down = Rules { window: Duration::from_secs(300), policies: vec![policy(all)], select: Select::Most };
        Self { min, max, targets: targets.to_vec(), tolerance: 0.1, up, down }
    }
}

/// Something that was, and when.
type Dated = (Instant, u32);

/// The controller's memory of one object.
#[derive(Clone, Debug)]
pub struct Hpa {
    settings: Settings,
    recommended: Vec<Dated>,
    added: Vec<Dated>,
    removed: Vec<Dated>,
}

impl Hpa {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, recommended: Vec::new(), added: Vec::new(), removed: Vec::new() }
    }

    /// One look: how many replicas there shall be. `metrics` are totals over all of them, in the order of their targets, and `replicas` is
    /// how many there are.
    pub fn sync(&mut self, metrics: &[f64], replicas: u32, now: Instant) -> u32 {
        let Settings { min, max, tolerance, .. } = self.settings;
        let next = if replicas == 0 && min != 0 {
            // Somebody has switched it off, KEDA for one.
            return 0;
        } else if replicas > max {
            max
        } else if replicas < min {
            min
        } else {
            let targets = self.settings.targets.iter().zip(metrics);
            let each = targets.map(|(target, metric)| recommended(*metric, *target, replicas, tolerance));
            let recommended = each.max().unwrap_or(replicas);
            let stable = self.stabilised(recommended, replicas, now);
            self.limited(stable, replicas, now)
        };
        match next.cmp(&replicas) {
            std::cmp::Ordering::Greater => self.added.push((now, next - replicas)),
            std::cmp::Ordering::Less => self.removed.push((now, replicas - next)),
            std::cmp::Ordering::Equal => {}
        }
        next
    }

    /// What lies between the least and the most that was recommended within the windows, as near to what there is as may be.
    fn stabilised(&mut self, recommended: u32, replicas: u32, now: Instant) -> u32 {
        let Settings { up, down, .. } = &self.settings;
        let within =
            |window| self.recommended.iter().filter(move |(at, _)| now - *at < window).map(|(_, count)| *count);
        let least = within(up.window).min().map_or(recommended, |least| least.min(recommended));
        let most = within(down.window).max().map_or(recommended, |most| most.max(recommended));
        let longest = up.window.max(down.window);
        self.recommended.retain(|(at, _)| now - *at < longest);
        self.recommended.push((now, recommended));
        replicas.max(least).min(most)
    }

    /// As many of them as the policies and the bounds allow.
    fn limited(&mut self, wanted: u32, replicas: u32, now: Instant) -> u32 {
        let Settings { min, max, up, down, .. } = &self.settings;
        let longest = [up, down].into_iter().flat_map(|rules| &rules.policies).map(|policy| policy.period).max();
        for changes in [&mut self.added, &mut self.removed] {
            changes.retain(|(at, _)| now - *at < longest.unwrap_or_default());
        }
        let changed = |changes: &[Dated], period| -> u32 {
            changes.iter().filter(|(at, _)| now - *at < period).map(|(_, count)| count).sum()
        };
        let at_begin =
            |period| (replicas + changed(&self.removed, period)).saturating_sub(changed(&self.added, period));
        if wanted > replicas {
            let allowed = up.policies.iter().map(|policy| match policy.change {
                Change::Pods(count) => at_begin(policy.period) + count,
                Change::Percent(percent) => {
                    (f64::from(at_begin(policy.period)) * (1.0 + f64::from(percent) / 100.0)).ceil() as u32
                }
            });
            let limit = match up.select {
                Select::Most => allowed.max(),
                Select::Least => allowed.min(),
                Select::Nothing => None,
            };
            return wanted.min(limit.unwrap_or(replicas).max(replicas)).min(*max);
        }
        if wanted < replicas {
            let allowed = down.policies.iter().map(|policy| match policy.change {
                Change::Pods(count) => at_begin(policy.period).saturating_sub(count),
                Change::Percent(percent) => {
                    (f64::from(at_begin(policy.period)) * (1.0 - f64::from(percent) / 100.0)) as u32
                }
            });
            let limit = match down.select {
                Select::Most => allowed.min(),
                Select::Least => allowed.max(),
                Select::Nothing => None,
            };
            return wanted.max(limit.unwrap_or(replicas).min(replicas)).max(*min);
        }
        wanted
    }
}

/// Replicas for a metric: its total over the target, rounded up, or those there are where that is within the tolerance.
fn recommended(metric: f64, target: f64, replicas: u32, tolerance: f64) -> u32 {
    // Quantities are in thousandths on their way.
    let [metric, target] = [metric, target].map(|value| (value * 1000.0).round());
    let ratio = metric / (target * f64::from(replicas));
    if (1.0 - ratio).abs() > tolerance { (metric / target).ceil() as u32 } else { replicas }
}

#[cfg(test)]
mod tests;
