//! What the denoiser counts.

use std::sync::OnceLock;
use std::time::Duration;

use darkroom_engine::{Observer, WasteReason};
use darkroom_models::stage::TextMemory;
use darkroom_service_kit::Metrics;
use darkroom_stage_kit::metrics::{StageMetrics, count};
use metrics::{Counter, Gauge, Histogram};

/// A step, here, is one evaluation of the UNet for one picture.
pub(crate) struct DenoiserMetrics {
    pub(crate) stage: StageMetrics,
    batch_size: Histogram,
    step_seconds: Histogram,
    steps: Counter,
    wasted_steps: [(WasteReason, Counter); WasteReason::ALL.len()],
    text_bytes: Gauge,
    /// There once the model is loaded.
    text_memory: OnceLock<TextMemory>,
}

impl DenoiserMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Evaluations of the UNet for pictures that were never finished, one for each picture in the batch";
        let wasted_steps = WasteReason::ALL
            .map(|reason| (reason, metrics.counter("wasted_steps_total", help, &[("reason", reason.as_str())])));
        Self {
            stage: StageMetrics::new(metrics),
            batch_size: metrics.histogram("batch_size", "Pictures in one evaluation of the UNet", &[]),
            step_seconds: metrics.histogram("step_seconds", "Time of one evaluation of the UNet", &[]),
            steps: metrics.counter("steps_total", "Evaluations of the UNet, one for each picture in the batch", &[]),
            wasted_steps,
            text_bytes: metrics.gauge("text_bytes", "Memory of the keys and values of the texts in use", &[]),
            text_memory: OnceLock::new(),
        }
    }

    /// Whom to ask for the memory that texts take.
    pub(crate) fn follow(&self, text_memory: TextMemory) {
        // Loaded once; there is no second one to lose.
        let _ = self.text_memory.set(text_memory);
    }
}

impl Observer for DenoiserMetrics {
    fn started(&self, waited: Duration) {
        self.stage.started(waited);
    }

    fn evaluated(&self, pictures: usize, took: Duration) {
        self.batch_size.record(pictures as f64);
        self.step_seconds.record(took.as_secs_f64());
        self.steps.increment(pictures as u64);
    }

    fn wasted(&self, reason: WasteReason, steps: usize) {
        count(&self.wasted_steps, reason, steps);
    }

    fn waiting(&self, requests: usize) {
        self.stage.waiting(requests);
    }

    fn running(&self, _requests: usize) {
        if let Some(memory) = self.text_memory.get() {
            self.text_bytes.set(memory.bytes() as f64);
        }
    }
}
