//! The models that are served side by side: each is a line of its own, of workers, queue and generator.
//!
//! Nothing that happens in one line holds up another: not its absent workers, not its full queue, not its tries. What they share is the
//! door with its clients, the requests by name, the memory of pictures and embeddings, the number of those who wait (`places`), and the
//! gates to workers that stand in several lists (`stages::gate`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use darkroom_service_kit::status::shown;
use darkroom_service_kit::{Metrics, Readiness};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::config::{Config, LineConfig, about};
use crate::embedding_cache::EmbeddingCache;
use crate::generate::Generator;
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::places::Places;
use crate::prompts::Prompts;
use crate::scheduler::Scheduler;
use crate::stages::calls::Calls;
use crate::stages::discovery::Resolver;
use crate::stages::{Gates, Stage, StageError, Stages};
use crate::validate::Refusal;

/// One model's workers, queue and generator.
pub(crate) struct Line {
    /// `None` where the configuration names no models: whatever the workers run.
    pub(crate) name: Option<String>,
    pub(crate) stages: Arc<Stages>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) generator: Arc<Generator>,
    metrics: Arc<OrchestratorMetrics>,
    /// Requests wait for workers that are away.
    waits: bool,
}

/// What all lines are made with.
pub(crate) struct Shared {
    pub(crate) registry: Metrics,
    pub(crate) cache: Arc<EmbeddingCache>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) stopped: CancellationToken,
}

/// All lines, in the order of the configuration.
pub(crate) struct Lines(Vec<Arc<Line>>);

impl Lines {
    /// # Errors
    /// When an address in the configuration is none, or its tables contradict each other.
    pub(crate) fn new(config: &Config, shared: &Shared) -> anyhow::Result<Self> {
        let (configs, mut gates) = (config.lines()?, Gates::default());
        let places = Places::parted(config.queue_limit as usize, configs.len());
        let line = |(line, places): (&LineConfig, _)| Line::new(config, line, places, &mut gates, shared).map(Arc::new);
        configs.iter().zip(places).map(line).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Starts to look at the workers, and to keep queues, gauges and readiness in step with them, until the service stops. It is ready
    /// when one of the lines is: a model that is scaled to nothing must not take the others' requests away.
    pub(crate) fn begin(&self, config: &Config, shared: &Shared, readiness: &Readiness) {
        let outlook = Arc::new(Outlook::new(self, readiness.clone()));
        for (at, line) in self.0.iter().enumerate() {
            line.stages.watch(&shared.resolver, config.resolve_interval());
            let following = Arc::clone(line).follow(Arc::clone(&outlook), at);
            tokio::spawn(until(shared.stopped.clone(), following));
            tokio::spawn(until(shared.stopped.clone(), Arc::clone(&line.admission).forecast()));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Line> {
        self.0.iter().map(Arc::as_ref)
    }

    /// The line that serves `model`; the first one if that is empty.
    ///
    /// # Errors
    /// That no line does, with the names that there are.
    pub(crate) fn of(&self, model: &str) -> Result<&Line, Refusal> {
        let serves = |line: &&Line| model.is_empty() || line.name.as_deref().is_none_or(|name| name == model);
        self.iter().find(serves).ok_or_else(|| {
            let names: Vec<String> =
                self.iter().filter_map(|line| Some(format!("{:?}", line.name.as_ref()?))).collect();
            let are = if names.len() == 1 { "is" } else { "are" };
            let message = format!("{} is not served here, known {are} {}", shown(model), names.join(", "));
            Refusal { field: "model", message }
        })
    }
}

impl Line {
    fn new(
        config: &Config,
        line: &LineConfig,
        places: Places,
        gates: &mut Gates,
        shared: &Shared,
    ) -> anyhow::Result<Self> {
        let name = line.name.clone();
        let metrics = Arc::new(OrchestratorMetrics::of_line(shared.registry.clone(), name.as_deref()));
        let stages = Stages::new(config, line, gates, Arc::clone(&metrics), shared.stopped.clone());
        let stages = about(name.as_deref(), stages)?;
        let scheduler = Scheduler::new(config.scheduling(), config.assumed_pixel_seconds(), Instant::now());
        let admission = Admission::new(scheduler, places, Arc::clone(&metrics));
        let calls = Arc::new(Calls::new(config, Arc::clone(&stages), Arc::clone(&metrics)));
        let prompts = Prompts { calls: Arc::clone(&calls), cache: Arc::clone(&shared.cache) };
        let generator = Arc::new(Generator {
            calls,
            prompts,
            no_worker_wait: config.no_worker_wait(),
            recovery_wait: config.recovery_wait(),
        });
        let waits = !config.no_worker_wait().is_zero();
        Ok(Self { name, stages, admission, generator, metrics, waits })
    }

    /// What is counted of it.
    pub(crate) fn metrics(&self) -> &OrchestratorMetrics {
        &self.metrics
    }

    /// Keeps the scheduler, readiness and the model's gauge in step with the workers.
    async fn follow(self: Arc<Self>, outlook: Arc<Outlook>, at: usize) {
        let mut states = self.stages.subscribe();
        let mut served: Option<Arc<Model>> = None;
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            self.admission.set_workers(&state.speeds());
            match &state.model {
                Ok(model) => {
                    if served.as_ref() != Some(model) {
                        self.metrics.set_model(served.as_deref(), Some(model));
                        served = Some(Arc::clone(model));
                    }
                    outlook.tell(at, None);
                }
                // Requests must reach it, or nobody would start one.
                Err(StageError::Away { stage: Stage::Denoiser, .. }) if self.waits => outlook.tell(at, None),
                Err(error) => outlook.tell(at, Some(error.to_string())),
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

/// What each line lacks, and with it whether the service is ready.
struct Outlook {
    lacking: Mutex<Vec<Option<String>>>,
    names: Vec<Option<String>>,
    readiness: Readiness,
}

impl Outlook {
    fn new(lines: &Lines, readiness: Readiness) -> Self {
        let names: Vec<_> = lines.iter().map(|line| line.name.clone()).collect();
        let unasked = Some("its workers have not been asked yet".to_owned());
        Self { lacking: Mutex::new(vec![unasked; names.len()]), names, readiness }
    }

    /// Line `at` lacks this; nothing where it serves.
    fn tell(&self, at: usize, lacks: Option<String>) {
        // Readiness turns before the lock is let go, so that what is told last is what is so.
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking[at] = lacks;
        if lacking.iter().any(Option::is_none) {
            return self.readiness.set_ready();
        }
        let said = self.names.iter().zip(lacking.iter().flatten()).map(|(name, lacks)| match name {
            Some(name) => format!("{name}: {lacks}"),
            None => lacks.clone(),
        });
        self.readiness.set_waiting(said.collect::<Vec<_>>().join("; "));
    }
}

async fn until(stopped: CancellationToken, task: impl Future<Output = ()>) {
    _ = stopped.run_until_cancelled(task).await;
}
