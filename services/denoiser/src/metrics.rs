//! What the denoiser counts.

use std::sync::OnceLock;
use std::time::Duration;

use darkroom_engine::{Budget, Observer, StepTime, Used, WasteReason};
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
    batch_pixels: Gauge,
    batch_bytes: Gauge,
    checkpoints_sent: [Counter; 2],
    checkpoints_received: [Counter; 2],
    metrics: Metrics,
    /// There once the model is loaded.
    text_memory: OnceLock<TextMemory>,
}

impl DenoiserMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Evaluations of the UNet for pictures that were never finished, one for each picture in the batch";
        let wasted_steps = WasteReason::ALL
            .map(|reason| (reason, metrics.counter("wasted_steps_total", help, &[("reason", reason.as_str())])));
        // Apart from other tensors: how many there are depends on how slow the evaluations and the readers are.
        let checkpoints = |direction| {
            let help = "Checkpoints told to callers, and those that work went on from";
            let number = metrics.counter("checkpoints_total", help, &[("direction", direction)]);
            let bytes = metrics.counter("checkpoint_bytes_total", "Bytes of checkpoints", &[("direction", direction)]);
            [number, bytes]
        };
        Self {
            stage: StageMetrics::new(metrics),
            batch_size: metrics.histogram("batch_size", "Pictures in one evaluation of the UNet", &[]),
            step_seconds: metrics.histogram("step_seconds", "Time of one evaluation of the UNet", &[]),
            steps: metrics.counter("steps_total", "Evaluations of the UNet, one for each picture in the batch", &[]),
            wasted_steps,
            batch_pixels: metrics.gauge("batch_pixels", "Latent pixels of all rows in the batch", &[]),
            batch_bytes: metrics.gauge("batch_bytes", "Memory charged to the pictures in the batch", &[]),
            checkpoints_sent: checkpoints("sent"),
            checkpoints_received: checkpoints("received"),
            metrics: metrics.clone(),
            text_bytes: metrics.gauge(
                "text_bytes",
                "Memory of the keys and values of the texts in use, and of LoRAs",
                &[],
            ),
            text_memory: OnceLock::new(),
        }
    }

    /// The batch's bounds, and the evaluations that they follow from.
    pub(crate) fn warmed_up(&self, budget: Budget, measured: &[StepTime]) {
        let help = "Bound of the latent pixels of all rows in the batch";
        self.metrics.gauge("batch_budget_pixels", help, &[]).set(budget.pixels as f64);
        let help = "Bound of the memory charged to the pictures in the batch";
        self.metrics.gauge("batch_budget_bytes", help, &[]).set(budget.bytes as f64);
        for time in measured {
            let help = "Time of one evaluation of so many rows of the default size, measured at start";
            let labels = [("rows", time.rows.to_string())];
            let labels = labels.each_ref().map(|(name, rows)| (*name, rows.as_str()));
            self.metrics.gauge("warm_up_step_seconds", help, &labels).set(time.took.as_secs_f64());
        }
    }

    /// A checkpoint leaves.
    pub(crate) fn checkpoint_sent(&self, bytes: usize) {
        add(&self.checkpoints_sent, bytes);
    }

    /// Work goes on from a checkpoint.
    pub(crate) fn checkpoint_received(&self, bytes: usize) {
        add(&self.checkpoints_received, bytes);
    }

    /// Whom to ask for the memory that texts take.
    pub(crate) fn follow(&self, text_memory: TextMemory) {
        // Loaded once; there is no second one to lose.
        let _ = self.text_memory.set(text_memory);
    }
}

fn add([number, total]: &[Counter; 2], bytes: usize) {
    number.increment(1);
    total.increment(bytes as u64);
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

    fn running(&self, _requests: usize, used: Used) {
        self.batch_pixels.set(used.pixels as f64);
        self.batch_bytes.set(used.bytes as f64);
        if let Some(memory) = self.text_memory.get() {
            self.text_bytes.set(memory.bytes() as f64);
        }
    }
}
