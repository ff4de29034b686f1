//! What the autoencoder counts.

use std::time::Duration;

use darkroom_engine::{Observer, WasteReason};
use darkroom_service_kit::Metrics;
use darkroom_stage_kit::metrics::CallMetrics;
use metrics::Counter;

pub(crate) struct VaeMetrics {
    pub(crate) calls: CallMetrics,
    pub(crate) decoded: Counter,
    pub(crate) encoded: Counter,
}

impl VaeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let pictures = |direction| {
            metrics.counter("pictures_total", "Pictures that went through the autoencoder", &[("direction", direction)])
        };
        Self { calls: CallMetrics::new(metrics), decoded: pictures("decode"), encoded: pictures("encode") }
    }
}

impl Observer for VaeMetrics {
    fn started(&self, waited: Duration) {
        self.calls.started(waited);
    }

    fn evaluated(&self, pictures: usize, took: Duration) {
        self.calls.evaluated(pictures, took);
    }

    fn wasted(&self, reason: WasteReason, calls: usize) {
        self.calls.wasted(reason, calls);
    }

    fn waiting(&self, requests: usize) {
        self.calls.waiting(requests);
    }
}
