//! Puts the orchestrator together from its configuration.

use std::sync::Arc;
use std::time::Instant;

use darkroom_proto::v1::image_generation_server::ImageGenerationServer;
use darkroom_service_kit::{Metrics, Readiness, Server, ServiceHandle};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::config::Config;
use crate::embedding_cache::EmbeddingCache;
use crate::generate::Generator;
use crate::inputs::Inputs;
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::prompts::Prompts;
use crate::results::Results;
use crate::running::Running;
use crate::scheduler::Scheduler;
use crate::service::ImageGenerationService;
use crate::stages::calls::Calls;
use crate::stages::discovery::{Resolver, SystemResolver};
use crate::stages::{Stage, StageError, Stages};
use crate::validate::Limits;

const SERVICE: &str = "orchestrator";

/// Binds the ports, starts to look for the workers and serves.
///
/// The orchestrator is *live* at once and *ready* when each stage has a ready worker and their models fit: only then can it keep
/// what its readiness promises. Calls are answered before that too, with what is missing. Where requests wait for workers, denoisers alone
/// may be missing: requests must reach it, or nobody would start one.
///
/// # Errors
/// When a port cannot be bound, or an address in the configuration is none.
pub async fn start(config: Config) -> anyhow::Result<ServiceHandle> {
    start_with(config, Arc::new(SystemResolver)).await
}

/// As [`start`], with another answer to where names lead.
pub(crate) async fn start_with(config: Config, resolver: Arc<dyn Resolver>) -> anyhow::Result<ServiceHandle> {
    let registry = Metrics::new(SERVICE);
    let server = Server::bind(SERVICE, &config.server, registry.clone()).await?;
    let metrics = Arc::new(OrchestratorMetrics::new(registry));
    let stopped = server.stopped();
    let stages = Stages::new(&config, Arc::clone(&metrics), stopped.clone())?;
    let clients = config.clients()?;
    let scheduler = Scheduler::new(config.scheduling(), config.assumed_pixel_seconds(), Instant::now());
    let admission = Admission::new(scheduler, Arc::clone(&metrics));

    stages.watch(&resolver, config.resolve_interval());
    let waits = !config.no_worker_wait().is_zero();
    let following =
        follow(Arc::clone(&stages), Arc::clone(&admission), server.readiness(), waits, Arc::clone(&metrics));
    tokio::spawn(until(stopped.clone(), following));
    tokio::spawn(until(stopped, Arc::clone(&admission).forecast()));

    let running = Running::new(config.keeping(), Arc::clone(&metrics));
    let results = Results::new(config.max_results_bytes(), metrics.results_bytes.clone());
    let inputs = Inputs::new(Results::inputs(config.max_inputs_bytes(), metrics.inputs_bytes.clone()));
    let cache = EmbeddingCache::new(config.prompt_cache_bytes, Arc::clone(&metrics));
    let calls = Arc::new(Calls::new(&config, Arc::clone(&stages), metrics));
    let prompts = Prompts { calls: Arc::clone(&calls), cache };
    let service = ImageGenerationService {
        generator: Arc::new(Generator {
            calls,
            prompts,
            no_worker_wait: config.no_worker_wait(),
            recovery_wait: config.recovery_wait(),
        }),
        stages,
        admission,
        running,
        results,
        inputs,
        clients,
        readiness: server.readiness(),
        limits: Limits { max_images: config.max_images, max_side: config.max_side },
    };
    let service = ImageGenerationServer::new(service)
        .max_decoding_message_size(config.server.max_message_bytes)
        .max_encoding_message_size(config.server.max_message_bytes);
    server.service(service).serve()
}

/// Keeps the scheduler, readiness and the model's gauge in step with the workers. `waits`: requests wait for workers that are away.
async fn follow(
    stages: Arc<Stages>,
    admission: Arc<Admission>,
    readiness: Readiness,
    waits: bool,
    metrics: Arc<OrchestratorMetrics>,
) {
    let mut states = stages.subscribe();
    let mut served: Option<Arc<Model>> = None;
    loop {
        let state = Arc::clone(&states.borrow_and_update());
        admission.set_workers(&state.speeds());
        match &state.model {
            Ok(model) => {
                if served.as_ref() != Some(model) {
                    metrics.set_model(served.as_deref(), Some(model));
                    served = Some(Arc::clone(model));
                }
                readiness.set_ready();
            }
            Err(StageError::Away { stage: Stage::Denoiser, .. }) if waits => readiness.set_ready(),
            Err(error) => readiness.set_waiting(error.to_string()),
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

async fn until(stopped: CancellationToken, task: impl Future<Output = ()>) {
    _ = stopped.run_until_cancelled(task).await;
}
