//! What the orchestrator counts. Everything is registered at the start, so that a dashboard has no holes before the first request.
//!
//! Each line of workers has its own of these, and what belongs to its model carries the label `model` where the configuration names the
//! models. What all lines share has no such label, and is the same series in each.

use std::time::Duration;

use darkroom_service_kit::Metrics;
use metrics::{Counter, Gauge, Histogram};

use crate::clients::Stranger;
use crate::generate::track::Resume;
use crate::model::Model;
use crate::scheduler::Scheduler;
use crate::selection::Identity;
use crate::stages::Stage;
use crate::stages::fault::Fault;
use crate::totals::Total;

/// What a worker can be: one that gets work, or why it does not.
const WORKER_STATES: [&str; 8] =
    ["ready", "unreachable", "starting", "draining", "retired", "misfit_revision", "misfit_precision", "misfit_model"];

/// Why pictures go on elsewhere.
const RESUME_REASONS: [&str; 5] = ["died", "hung", "drained", "busy", "plan_version"];

/// What clients can have too much of, as the clients file names it.
const LIMITS: [&str; 3] = ["requests_per_minute", "max_running", "images_per_day"];

/// Handles into this instance's recorder.
pub(crate) struct OrchestratorMetrics {
    registry: Metrics,
    /// The value of the label, if there is one.
    model: Option<String>,
    queue_depth: Gauge,
    queued_work_seconds: Gauge,
    admitted_work_seconds_total: Counter,
    pub(crate) queue_wait_seconds: Histogram,
    pub(crate) images_total: Total,
    pub(crate) images_failed_total: Total,
    /// Steps of pictures, each once.
    pub(crate) steps: Total,
    /// Requests that were in order.
    pub(crate) admitted: Total,
    pub(crate) refused: Total,
    pub(crate) prompt_cache_hits_total: Counter,
    pub(crate) prompt_cache_misses_total: Counter,
    pub(crate) prompt_cache_bytes: Gauge,
    pub(crate) retries_refused_total: Counter,
    pub(crate) finished_bytes: Gauge,
    pub(crate) results_bytes: Gauge,
    pub(crate) inputs_bytes: Gauge,
    pub(crate) audit_lines_lost_total: Counter,
    resumed_evaluations_total: Counter,
    repeated_steps_total: Counter,
    checkpoint_bytes: Gauge,
    /// Of each stage, and of writing the file.
    stage_seconds: [Histogram; 3],
    picture_seconds: Histogram,
    /// By stage.
    sent_bytes: [Counter; 3],
    received_bytes: [Counter; 3],
    /// By stage and state.
    workers: [[Gauge; WORKER_STATES.len()]; 3],
}

impl OrchestratorMetrics {
    /// Without the label.
    #[cfg(test)]
    pub(crate) fn new(registry: Metrics) -> Self {
        Self::of_line(registry, None)
    }

    /// Of the line that serves `model`; `None` where there is one line, for whatever its workers run.
    pub(crate) fn of_line(registry: Metrics, model: Option<&str>) -> Self {
        let part_seconds = |part| {
            let help = "Time of one stage's part in a picture or a prompt";
            registry.histogram("stage_seconds", help, &labelled(model, &[("stage", part)]))
        };
        let tensor_bytes = |stage: Stage, direction| {
            let labels = [("stage", stage.name()), ("direction", direction)];
            let help = "Bytes of tensors sent to and received from the stages";
            registry.counter("tensor_bytes_total", help, &labelled(model, &labels))
        };
        let workers = |stage: Stage, state| {
            let labels = [("stage", stage.name()), ("state", state)];
            registry.gauge("workers", "Workers of a stage, by what they are", &labelled(model, &labels))
        };
        let own = labelled(model, &[]);
        let metrics = Self {
            model: model.map(str::to_owned),
            stage_seconds: Stage::ALL.map(|stage| part_seconds(stage.name())),
            picture_seconds: part_seconds("picture"),
            sent_bytes: Stage::ALL.map(|stage| tensor_bytes(stage, "sent")),
            received_bytes: Stage::ALL.map(|stage| tensor_bytes(stage, "received")),
            workers: Stage::ALL.map(|stage| WORKER_STATES.map(|state| workers(stage, state))),
            queue_depth: registry.gauge("queue_depth", "Requests that wait for their first slot", &own),
            queued_work_seconds: registry.gauge(
                "queued_work_seconds",
                "Seconds that one denoiser would need for all denoising that waits or runs",
                &own,
            ),
            admitted_work_seconds_total: registry.counter(
                "admitted_work_seconds_total",
                "Seconds that one denoiser would need for all denoising that was let in",
                &own,
            ),
            queue_wait_seconds: registry.histogram(
                "queue_wait_seconds",
                "Time from a request's arrival to its first slot",
                &own,
            ),
            images_total: Total::shown_as(registry.counter(
                "images_total",
                "Pictures, or latents, sent to clients",
                &own,
            )),
            images_failed_total: Total::shown_as(registry.counter(
                "images_failed_total",
                "Pictures that could not be made",
                &own,
            )),
            steps: Total::default(),
            admitted: Total::default(),
            refused: Total::default(),
            prompt_cache_hits_total: registry.counter(
                "prompt_cache_hits_total",
                "Embeddings taken from memory instead of a text encoder",
                &[],
            ),
            prompt_cache_misses_total: registry.counter(
                "prompt_cache_misses_total",
                "Embeddings that a text encoder was asked for",
                &[],
            ),
            prompt_cache_bytes: registry.gauge("prompt_cache_bytes", "Memory of the embeddings that are kept", &[]),
            retries_refused_total: registry.counter(
                "retries_refused_total",
                "Tries that the budget did not allow",
                &own,
            ),
            finished_bytes: registry.gauge(
                "finished_bytes",
                "Memory of finished requests' pictures that are kept",
                &[],
            ),
            results_bytes: registry.gauge("results_bytes", "Memory of pictures that are made and not let go of", &[]),
            inputs_bytes: registry.gauge("inputs_bytes", "Memory of pictures that requests begin from", &[]),
            audit_lines_lost_total: registry.counter(
                "audit_lines_lost_total",
                "Lines of the audit log that could not be written",
                &[],
            ),
            resumed_evaluations_total: registry.counter(
                "resumed_evaluations_total",
                "Evaluations of the UNet that resumed pictures did not have to repeat",
                &own,
            ),
            repeated_steps_total: registry.counter(
                "repeated_steps_total",
                "Steps that were told to be done and were done again, because no checkpoint of them had come",
                &own,
            ),
            checkpoint_bytes: registry.gauge(
                "checkpoint_bytes",
                "Memory of the checkpoints that are kept, one for each running picture",
                &[],
            ),
            registry,
        };
        for state in ["running", "finished"] {
            metrics.joins(state).increment(0);
        }
        for reason in RESUME_REASONS {
            metrics.resumes(reason).increment(0);
        }
        for stranger in Stranger::ALL {
            metrics.auth_failures(stranger).increment(0);
        }
        for limit in LIMITS {
            metrics.quota_refusals(limit).increment(0);
        }
        for stage in [Stage::TextEncoder, Stage::Vae] {
            for fault in [Fault::Died, Fault::Hung, Fault::Busy] {
                metrics.retries(stage, fault).increment(0);
            }
        }
        metrics
    }

    /// The queue's gauges, after each change.
    pub(crate) fn queue(&self, queue: &Scheduler) {
        self.queue_depth.set(queue.depth() as f64);
        self.queued_work_seconds.set(queue.work_seconds());
        // Whole seconds: a rate over minutes loses nothing by it.
        self.admitted_work_seconds_total.absolute(queue.admitted_seconds() as u64);
    }

    /// The time of one stage's part.
    pub(crate) fn stage_seconds(&self, stage: Stage, took: Duration) {
        self.stage_seconds[stage as usize].record(took.as_secs_f64());
    }

    /// The time of writing a picture's file.
    pub(crate) fn picture_seconds(&self, took: Duration) {
        self.picture_seconds.record(took.as_secs_f64());
    }

    /// A request came again and joined the one that runs, or is done.
    pub(crate) fn joined(&self, state: &'static str) {
        self.joins(state).increment(1);
    }

    fn joins(&self, state: &'static str) -> Counter {
        let help = "Requests that came again and joined one that runs, or got the result of one that is done";
        self.registry.counter("joins_total", help, &[("state", state)])
    }

    /// A caller was not let in.
    pub(crate) fn stranger(&self, why: Stranger) {
        self.auth_failures(why).increment(1);
    }

    fn auth_failures(&self, why: Stranger) -> Counter {
        let help = "Calls refused because of their key, or for want of one";
        self.registry.counter("auth_failures_total", help, &[("reason", why.name())])
    }

    /// A client asked for more than it may have.
    pub(crate) fn over_quota(&self, limit: &'static str) {
        self.quota_refusals(limit).increment(1);
    }

    fn quota_refusals(&self, limit: &'static str) -> Counter {
        let help = "Calls refused because their client has had what it may have";
        self.registry.counter("quota_refusals_total", help, &[("limit", limit)])
    }

    /// A call was made again on another worker.
    pub(crate) fn retried(&self, stage: Stage, fault: Fault) {
        self.retries(stage, fault).increment(1);
    }

    fn retries(&self, stage: Stage, fault: Fault) -> Counter {
        let help = "Calls made again on another worker, by what the one before did";
        let labels = [("stage", stage.name()), ("reason", fault.name())];
        self.registry.counter("retries_total", help, &labelled(self.model.as_deref(), &labels))
    }

    /// A picture goes on with another worker: what that saved, and what had to be done again.
    pub(crate) fn resumed(&self, reason: &'static str, resume: &Resume) {
        self.resumes(reason).increment(1);
        self.resumed_evaluations_total.increment(resume.saved_evaluations.into());
        self.repeated_steps_total.increment(resume.repeated_steps.into());
    }

    fn resumes(&self, reason: &'static str) -> Counter {
        let help = "Pictures that went on with another denoiser, by what became of the one before";
        self.registry.counter("resumes_total", help, &labelled(self.model.as_deref(), &[("reason", reason)]))
    }

    /// The checkpoint that is kept for a picture has another size now.
    pub(crate) fn checkpoint_bytes(&self, before: usize, now: usize) {
        self.checkpoint_bytes.increment(now as f64 - before as f64);
    }

    pub(crate) fn sent(&self, stage: Stage, bytes: usize) {
        self.sent_bytes[stage as usize].increment(bytes as u64);
    }

    pub(crate) fn received(&self, stage: Stage, bytes: usize) {
        self.received_bytes[stage as usize].increment(bytes as u64);
    }

    /// The states of all of a stage's workers.
    pub(crate) fn set_workers(&self, stage: Stage, states: impl Iterator<Item = &'static str>) {
        let mut counts = [0u32; WORKER_STATES.len()];
        for found in states {
            if let Some(at) = WORKER_STATES.iter().position(|state| *state == found) {
                counts[at] += 1;
            }
        }
        for (gauge, count) in self.workers[stage as usize].iter().zip(counts) {
            gauge.set(f64::from(count));
        }
    }

    /// The model that the line serves; another one's gauge falls to 0.
    pub(crate) fn set_model(&self, old: Option<&Model>, new: Option<&Model>) {
        for (model, value) in [(old, 0.0), (new, 1.0)] {
            if let Some(model) = model {
                let Identity { revision, precision } = &model.pins.text_encoder;
                let text_revision = format!("{revision}/{precision}");
                let labels = [("model", model.name.as_str()), ("text_revision", text_revision.as_str())];
                let help = "1 for each model that is served";
                self.registry.gauge("model_info", help, &labels).set(value);
            }
        }
    }
}

/// With the label of the model before them, where there is one.
fn labelled<'a>(model: Option<&'a str>, labels: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    model.map(|model| ("model", model)).into_iter().chain(labels.iter().copied()).collect()
}
