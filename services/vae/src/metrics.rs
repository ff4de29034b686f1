//! What the autoencoder counts.

use std::sync::Arc;

use darkroom_proto::v1::{SafetyPolicy, SafetyVerdict};
use darkroom_service_kit::Metrics;
use darkroom_stage_kit::metrics::CallMetrics;
use metrics::Counter;

use crate::finish::{Finished, FinishingFacts};

pub(crate) struct VaeMetrics {
    metrics: Metrics,
    /// The model's thread counts here too.
    pub(crate) calls: Arc<CallMetrics>,
    decoded: Counter,
    pub(crate) encoded: Counter,
    watermarked: Counter,
    verdicts: [(SafetyVerdict, Counter); 2],
}

impl VaeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let pictures = |direction| {
            metrics.counter("pictures_total", "Pictures that went through the autoencoder", &[("direction", direction)])
        };
        let verdict = |verdict| {
            metrics.counter(
                "safety_verdicts_total",
                "Pictures that the safety checker looked at",
                &[("verdict", verdict)],
            )
        };
        Self {
            metrics: metrics.clone(),
            calls: Arc::new(CallMetrics::new(metrics)),
            decoded: pictures("decode"),
            encoded: pictures("encode"),
            watermarked: metrics.counter("watermarked_pictures_total", "Pictures that were signed", &[]),
            verdicts: [(SafetyVerdict::Passed, verdict("passed")), (SafetyVerdict::Flagged, verdict("flagged"))],
        }
    }

    /// What is done to every picture is known.
    pub(crate) fn policy(&self, facts: &FinishingFacts) {
        let watermark = if facts.watermark { "on" } else { "off" };
        let safety = match facts.policy {
            SafetyPolicy::Block => "block",
            SafetyPolicy::Mark => "mark",
            SafetyPolicy::Off => "off",
        };
        let labels = [("watermark", watermark), ("safety", safety)];
        self.metrics.gauge("policy_info", "Always 1; the labels say what is done to pictures", &labels).set(1.0);
    }

    /// A decoded picture may leave.
    pub(crate) fn finished(&self, finished: &Finished) {
        self.decoded.increment(1);
        self.watermarked.increment(u64::from(finished.signed));
        for (_, counter) in self.verdicts.iter().filter(|(verdict, _)| *verdict == finished.verdict) {
            counter.increment(1);
        }
    }
}
