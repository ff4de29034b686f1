//! From outcomes to figures.

use std::collections::BTreeMap;
use std::time::Duration;

use darkroom_client::load::Percentiles;
use darkroom_service_kit::status::code_name;
use serde::{Deserialize, Serialize};

use super::fairness::Fairness;
use super::outcome::{End, Outcome};
use super::usage::Usage;

/// What is measured: the first seconds do not count, and neither does what is done after the last arrival.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Until then the run warms up.
    pub from: Duration,
    /// The last arrival.
    pub to: Duration,
}

/// The least, the middle and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The most.
    pub max: f64,
}

/// All that a run says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Seconds that count.
    pub seconds: f64,
    /// Requests that were to be sent in them.
    pub offered: usize,
    /// Of those, how many were let in.
    pub admitted: usize,
    /// Of those, how many were completed.
    pub completed: usize,
    /// Completed, with other latents than they should have.
    pub wrong: usize,
    /// Still under way when the run was over.
    pub cut: usize,
    /// Not let in, by code.
    pub refused: BTreeMap<String, usize>,
    /// Failed later, by code.
    pub failed: BTreeMap<String, usize>,
    /// Requests a second that were completed in these seconds, whenever they came, and took no longer than allowed.
    pub goodput: f64,
    /// Seconds from the scheduled arrival to the end, of the completed.
    pub latency: Percentiles,
    /// The same, of those that were not let in.
    pub refusal: Percentiles,
    /// Seconds to the first event, of those that were let in.
    pub first_event: Percentiles,
    /// Seconds beyond what the worker's clock counted.
    pub added: Percentiles,
    /// Seconds that the generator itself was late.
    pub late: Percentiles,
    /// Delays told to those that were not let in.
    pub retry: Option<Spread>,
    /// Of those not let in for want of room, how many were told no delay.
    pub without_retry: usize,
    /// Events that came.
    pub events: u64,
    /// Of them, places in the queue.
    pub positions: u64,
    /// Requests whose place in the queue went back.
    pub positions_grew: usize,
    /// Of all identities.
    pub fairness: Fairness,
    /// Of the process that was looked at.
    pub usage: Vec<Usage>,
    /// Processors that the generator itself was busy with, on average.
    pub generator: f64,
    /// Processors that were busy with what is no part of the measurement, where that was looked at.
    pub others: Option<f64>,
}

impl Figures {
    /// `weights` are the identities'; a request is good when it took no longer than `good_within`.
    #[must_use]
    pub fn of(outcomes: &[Outcome], window: Window, weights: &[f64], good_within: Duration) -> Self {
        let Window { from, to } = window;
        let seconds = to.saturating_sub(from).as_secs_f64();
        let counted: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| (from..to).contains(&outcome.scheduled)).collect();
        let completed = || counted.iter().filter(|outcome| outcome.end == End::Completed);
        let refusals = || counted.iter().filter(|outcome| matches!(outcome.end, End::Refused(..)));
        let good = |outcome: &&Outcome| {
            outcome.end == End::Completed && outcome.latency <= good_within && (from..to).contains(&outcome.ended())
        };
        let count = |is: fn(&End) -> bool| counted.iter().filter(|outcome| is(&outcome.end)).count();
        let retries: Vec<f64> = refusals()
            .filter_map(|outcome| match outcome.end {
                End::Refused(_, delay) => delay.map(|delay| delay.as_secs_f64()),
                _ => None,
            })
            .collect();
        Self {
            seconds,
            offered: counted.len(),
            admitted: counted.iter().filter(|outcome| outcome.first_event.is_some()).count(),
            completed: completed().count(),
            wrong: count(|end| *end == End::Wrong),
            cut: count(|end| *end == End::Cut),
            refused: by_code(&counted, |end| if let End::Refused(code, _) = end { Some(*code) } else { None }),
            failed: by_code(&counted, |end| if let End::Failed(code) = end { Some(*code) } else { None }),
            goodput: outcomes.iter().filter(good).count() as f64 / seconds.max(f64::MIN_POSITIVE),
            latency: Percentiles::of(completed().map(|outcome| outcome.latency.as_secs_f64())),
            refusal: Percentiles::of(refusals().map(|outcome| outcome.latency.as_secs_f64())),
            first_event: Percentiles::of(
                counted.iter().filter_map(|outcome| outcome.first_event.map(|first| first.as_secs_f64())),
            ),
            added: Percentiles::of(completed().filter_map(|outcome| outcome.added())),
            late: Percentiles::of(counted.iter().map(|outcome| outcome.late.as_secs_f64())),
            retry: spread(&retries),
            without_retry: count(|end| matches!(end, End::Refused(tonic::Code::ResourceExhausted, None))),
            events: counted.iter().map(|outcome| u64::from(outcome.events)).sum(),
            positions: counted.iter().map(|outcome| u64::from(outcome.positions)).sum(),
            positions_grew: counted.iter().filter(|outcome| outcome.position_grew).count(),
            fairness: fairness(outcomes, &counted, window, weights),
            usage: Vec::new(),
            generator: 0.0,
            others: None,
        }
    }

    /// Seconds of processors a second, and bytes resident at first, at most and at last.
    #[must_use]
    pub fn cost(&self) -> Option<(f64, [u64; 3])> {
        let (first, last) = (self.usage.first()?, self.usage.last()?);
        let most = self.usage.iter().map(|look| look.resident).max()?;
        let busy = (last.processor - first.processor) / (last.at - first.at).max(f64::MIN_POSITIVE);
        Some((busy, [first.resident, most, last.resident]))
    }
}

fn by_code(outcomes: &[&Outcome], code: impl Fn(&End) -> Option<tonic::Code>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for code in outcomes.iter().filter_map(|outcome| code(&outcome.end)) {
        *counts.entry(code_name(code).to_owned()).or_default() += 1;
    }
    counts
}

fn spread(values: &[f64]) -> Option<Spread> {
    let of = Percentiles::of(values.iter().copied());
    let min = values.iter().copied().reduce(f64::min)?;
    Some(Spread { min, median: of.p50, max: of.max })
}

/// Work is asked for when it comes, and done when it ends.
fn fairness(outcomes: &[Outcome], counted: &[&Outcome], window: Window, weights: &[f64]) -> Fairness {
    let mut identities: Vec<(f64, u64, u64)> = weights.iter().map(|weight| (*weight, 0, 0)).collect();
    for outcome in counted {
        if let Some((_, asked, _)) = identities.get_mut(outcome.identity) {
            *asked += outcome.work;
        }
    }
    for outcome in outcomes {
        let in_time = (window.from..window.to).contains(&outcome.ended());
        if outcome.end == End::Completed
            && in_time
            && let Some((.., done)) = identities.get_mut(outcome.identity)
        {
            *done += outcome.work;
        }
    }
    Fairness::of(&identities)
}

#[cfg(test)]
mod tests {
    use darkroom_proto::v1::Priority;
    use tonic::Code;

    use super::*;

    fn outcome(scheduled: u64, latency: u64, end: End) -> Outcome {
        let refused = matches!(end, End::Refused(..));
        Outcome {
            identity: 0,
            priority: Priority::Normal,
            work: 10,
            scheduled: Duration::from_secs(scheduled),
            late: Duration::ZERO,
            first_event: (!refused).then_some(Duration::from_secs(1)),
            latency: Duration::from_secs(latency),
            end,
            events: 3,
            positions: 1,
            position_grew: false,
            spent: None,
        }
    }

    #[test]
    fn goodput_counts_ends_and_the_rest_counts_arrivals() {
        let delay = Some(Duration::from_secs(2));
        let outcomes = [
            outcome(0, 12, End::Completed),
            outcome(10, 5, End::Completed),
            outcome(15, 10, End::Completed),
            outcome(11, 8, End::Completed),
            outcome(12, 1, End::Refused(Code::ResourceExhausted, delay)),
            outcome(12, 1, End::Refused(Code::ResourceExhausted, None)),
            outcome(13, 2, End::Failed(Code::Unavailable)),
        ];
        let window = Window { from: Duration::from_secs(10), to: Duration::from_secs(20) };
        let figures = Figures::of(&outcomes, window, &[1.0], Duration::from_secs(7));
        assert_eq!((figures.offered, figures.admitted, figures.completed), (6, 4, 3));
        assert_eq!(figures.goodput, 0.1, "one took too long, one came too early and took too long, one ended too late");
        assert_eq!(figures.refused, BTreeMap::from([("RESOURCE_EXHAUSTED".into(), 2)]));
        assert_eq!(figures.failed, BTreeMap::from([("UNAVAILABLE".into(), 1)]));
        assert_eq!(figures.retry, Some(Spread { min: 2.0, median: 2.0, max: 2.0 }));
        assert_eq!((figures.without_retry, figures.events), (1, 18));
    }
}
