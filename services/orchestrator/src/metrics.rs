//! What the orchestrator counts. Everything is registered at the start, so that a dashboard has no holes before the first request.

use std::time::Duration;

use darkroom_service_kit::Metrics;
use metrics::{Counter, Gauge, Histogram};

use crate::model::Model;
use crate::queue::Queue;
use crate::stages::Stage;

/// Handles into this instance's recorder.
pub(crate) struct OrchestratorMetrics {
    registry: Metrics,
    queue_depth: Gauge,
    queued_work_seconds: Gauge,
    pub(crate) queue_wait_seconds: Histogram,
    pub(crate) images_total: Counter,
    pub(crate) images_failed_total: Counter,
    pub(crate) prompt_cache_hits_total: Counter,
}

impl OrchestratorMetrics {
    pub(crate) fn new(registry: Metrics) -> Self {
        let metrics = Self {
            queue_depth: registry.gauge("queue_depth", "Requests that wait for their first slot", &[]),
            queued_work_seconds: registry.gauge(
                "queued_work_seconds",
                "Estimated seconds of denoising that waits or runs, one picture after the other",
                &[],
            ),
            queue_wait_seconds: registry.histogram(
                "queue_wait_seconds",
                "Time from a request's arrival to its first slot",
                &[],
            ),
            images_total: registry.counter("images_total", "Pictures, or latents, sent to clients", &[]),
            images_failed_total: registry.counter("images_failed_total", "Pictures that could not be made", &[]),
            prompt_cache_hits_total: registry.counter(
                "prompt_cache_hits_total",
                "Embeddings taken from memory instead of a text encoder",
                &[],
            ),
            registry,
        };
        for stage in Stage::ALL {
            metrics.set_workers(stage, 0, 0);
            metrics.sent(stage, 0);
            metrics.received(stage, 0);
        }
        metrics
    }

    /// The queue's gauges, after each change.
    pub(crate) fn queue(&self, queue: &Queue) {
        self.queue_depth.set(queue.depth() as f64);
        self.queued_work_seconds.set(queue.work_seconds());
    }

    /// The time of one stage's part: a stage's name, or "picture" for writing the file.
    pub(crate) fn stage_seconds(&self, stage: &str, took: Duration) {
        let help = "Time of one stage's part in a picture or a prompt";
        self.registry.histogram("stage_seconds", help, &[("stage", stage)]).record(took.as_secs_f64());
    }

    pub(crate) fn sent(&self, stage: Stage, bytes: usize) {
        self.tensor_bytes(stage, "sent", bytes);
    }

    pub(crate) fn received(&self, stage: Stage, bytes: usize) {
        self.tensor_bytes(stage, "received", bytes);
    }

    fn tensor_bytes(&self, stage: Stage, direction: &str, bytes: usize) {
        let labels = [("stage", stage.name()), ("direction", direction)];
        let help = "Bytes of tensors sent to and received from the stages";
        self.registry.counter("tensor_bytes_total", help, &labels).increment(bytes as u64);
    }

    pub(crate) fn set_workers(&self, stage: Stage, ready: usize, away: usize) {
        let help = "Workers of a stage, by whether they take work";
        for (state, count) in [("ready", ready), ("away", away)] {
            let labels = [("stage", stage.name()), ("state", state)];
            self.registry.gauge("workers", help, &labels).set(count as f64);
        }
    }

    /// The model that is served; another one's gauge falls to 0.
    pub(crate) fn set_model(&self, old: Option<&Model>, new: Option<&Model>) {
        for (model, value) in [(old, 0.0), (new, 1.0)] {
            if let Some(model) = model {
                let labels = [("model", model.name.as_str()), ("text_revision", model.text_revision.as_str())];
                let help = "1 for the model that is served";
                self.registry.gauge("model_info", help, &labels).set(value);
            }
        }
    }
}
