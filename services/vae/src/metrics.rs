//! What the autoencoder counts.

use std::sync::Arc;

use darkroom_service_kit::Metrics;
use darkroom_stage_kit::metrics::CallMetrics;
use metrics::Counter;

pub(crate) struct VaeMetrics {
    /// The model's thread counts here too.
    pub(crate) calls: Arc<CallMetrics>,
    pub(crate) decoded: Counter,
    pub(crate) encoded: Counter,
}

impl VaeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let pictures = |direction| {
            metrics.counter("pictures_total", "Pictures that went through the autoencoder", &[("direction", direction)])
        };
        Self { calls: Arc::new(CallMetrics::new(metrics)), decoded: pictures("decode"), encoded: pictures("encode") }
    }
}
