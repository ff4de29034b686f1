//! What the text encoder counts.

use std::sync::Arc;

use darkroom_service_kit::Metrics;
use darkroom_stage_kit::metrics::CallMetrics;
use metrics::Counter;

use crate::stage::Embedding;

pub(crate) struct TextEncoderMetrics {
    /// The model's thread counts here too.
    pub(crate) calls: Arc<CallMetrics>,
    prompts: Counter,
    truncated: Counter,
}

impl TextEncoderMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let truncated = "Prompts whose end did not fit into the text tower's positions";
        Self {
            calls: Arc::new(CallMetrics::new(metrics)),
            prompts: metrics.counter("prompts_total", "Prompts encoded", &[]),
            truncated: metrics.counter("truncated_prompts_total", truncated, &[]),
        }
    }

    /// These prompts were encoded.
    pub(crate) fn encoded(&self, embeddings: &[Embedding]) {
        self.prompts.increment(embeddings.len() as u64);
        let truncated = embeddings.iter().filter(|embedding| !embedding.dropped_text.is_empty());
        self.truncated.increment(truncated.count() as u64);
    }
}
