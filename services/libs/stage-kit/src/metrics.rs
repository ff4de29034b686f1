//! What every stage counts.

use std::time::Duration;

use darkroom_engine::{Observer, WasteReason};
use darkroom_proto::v1;
use darkroom_service_kit::Metrics;
use metrics::{Counter, Gauge, Histogram};

/// The queue in front of a model, the tensors that pass, and who the model is.
pub struct StageMetrics {
    metrics: Metrics,
    queue_depth: Gauge,
    queue_wait: Histogram,
    received: Counter,
    sent: Counter,
}

impl StageMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let bytes = |direction| {
            metrics.counter("tensor_bytes_total", "Bytes of tensors taken and given", &[("direction", direction)])
        };
        Self {
            queue_depth: metrics.gauge("queue_depth", "Requests that wait for this stage's model", &[]),
            queue_wait: metrics.histogram("queue_wait_seconds", "Time that requests waited for the model", &[]),
            received: bytes("received"),
            sent: bytes("sent"),
            metrics: metrics.clone(),
        }
    }

    /// So many requests wait now.
    pub fn waiting(&self, requests: usize) {
        self.queue_depth.set(requests as f64);
    }

    /// A request left the queue.
    pub fn started(&self, waited: Duration) {
        self.queue_wait.record(waited.as_secs_f64());
    }

    /// A tensor came in.
    pub fn received(&self, tensor: Option<&v1::Tensor>) {
        self.received.increment(tensor.map_or(0, |tensor| tensor.data.len() as u64));
    }

    /// A tensor goes out; passes it on.
    pub fn sent(&self, tensor: v1::Tensor) -> v1::Tensor {
        self.sent.increment(tensor.data.len() as u64);
        tensor
    }

    /// The model is loaded.
    pub fn loaded(&self, info: &v1::StageInfo) {
        let labels = [
            ("model", info.model.as_str()),
            ("revision", info.revision.as_str()),
            ("precision", info.precision.as_str()),
            ("device", info.device.as_str()),
        ];
        self.metrics.gauge("model_info", "Always 1; the labels say which model is loaded", &labels).set(1.0);
    }
}

/// What the stages with one call at a time count besides: the text encoder and the autoencoder.
pub struct CallMetrics {
    /// What all stages count.
    pub stage: StageMetrics,
    compute: Histogram,
    wasted: [(WasteReason, Counter); WasteReason::ALL.len()],
}

impl CallMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let help = "Calls that were computed for nothing: the caller was gone, too late, or the model failed";
        let wasted = WasteReason::ALL
            .map(|reason| (reason, metrics.counter("wasted_calls_total", help, &[("reason", reason.as_str())])));
        let compute = metrics.histogram("compute_seconds", "Time of one call of the model, without the queue", &[]);
        Self { stage: StageMetrics::new(metrics), compute, wasted }
    }
}

impl Observer for CallMetrics {
    fn started(&self, waited: Duration) {
        self.stage.started(waited);
    }

    fn evaluated(&self, _: usize, took: Duration) {
        self.compute.record(took.as_secs_f64());
    }

    fn wasted(&self, reason: WasteReason, calls: usize) {
        count(&self.wasted, reason, calls);
    }

    fn waiting(&self, requests: usize) {
        self.stage.waiting(requests);
    }
}

/// Adds to the counter of a reason.
pub fn count(counters: &[(WasteReason, Counter)], reason: WasteReason, amount: usize) {
    for (_, counter) in counters.iter().filter(|(known, _)| *known == reason) {
        counter.increment(amount as u64);
    }
}
