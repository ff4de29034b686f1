//! What the autoencoder counts.

use std::sync::Arc;

use darkroom_proto::v1::SafetyVerdict;
use darkroom_service_kit::Metrics;
use darkroom_stage_kit::metrics::CallMetrics;
use metrics::Counter;

use crate::finish::Finished;

pub(crate) struct VaeMetrics {
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
            calls: Arc::new(CallMetrics::new(metrics)),
            decoded: pictures("decode"),
            encoded: pictures("encode"),
            watermarked: metrics.counter("watermarked_pictures_total", "Pictures that were signed", &[]),
            verdicts: [(SafetyVerdict::Passed, verdict("passed")), (SafetyVerdict::Flagged, verdict("flagged"))],
        }
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
