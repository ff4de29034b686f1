//! Puts the orchestrator together from its configuration.

use std::sync::Arc;
use std::time::Instant;

use darkroom_proto::v1::image_generation_server::ImageGenerationServer;
use darkroom_service_kit::{Metrics, Server, ServiceHandle};

use crate::audit::Audit;
use crate::clients::Allowances;
use crate::config::Config;
use crate::embedding_cache::EmbeddingCache;
use crate::inputs::Inputs;
use crate::lines::{Lines, Shared};
use crate::metrics::OrchestratorMetrics;
use crate::results::Results;
use crate::running::Running;
use crate::service::ImageGenerationService;
use crate::stages::discovery::{Resolver, SystemResolver};
use crate::validate::Limits;

const SERVICE: &str = "orchestrator";

/// Binds the ports, starts to look for the workers and serves.
///
/// The orchestrator is *live* at once and *ready* when each stage of a model has a ready worker and their parts fit: only then can it
/// keep what its readiness promises. Of several models one is enough. Calls are answered before that too, with what is missing. Where
/// requests wait for workers, denoisers alone may be missing: requests must reach it, or nobody would start one.
///
/// # Errors
/// When a port cannot be bound, or an address in the configuration is none.
pub async fn start(config: Config) -> anyhow::Result<ServiceHandle> {
    start_with(config, Arc::new(SystemResolver)).await
}

/// As [`start`], with another answer to where names lead.
pub(crate) async fn start_with(config: Config, resolver: Arc<dyn Resolver>) -> anyhow::Result<ServiceHandle> {
    let registry = Metrics::new(SERVICE);
    let server = Server::bind(SERVICE, &config.server, registry.clone()).await?.caller_traces(config.caller_traces);
    let clients = config.clients()?;
    // What the lines share is the same series for each of them.
    let first = config.model.first().map(|table| table.name.as_str());
    let metrics = Arc::new(OrchestratorMetrics::of_line(registry.clone(), first));
    let audit = Audit::open(config.audit_log.as_deref(), metrics.audit_lines_lost_total.clone())?;
    let cache = Arc::new(EmbeddingCache::new(config.prompt_cache_bytes, Arc::clone(&metrics)));
    let shared = Shared { registry, cache, resolver, stopped: server.stopped() };
    let lines = Lines::new(&config, &shared)?;
    lines.begin(&config, &shared, &server.readiness());

    let running = Running::new(config.keeping(), Arc::clone(&metrics));
    let results = Results::new(config.max_results_bytes(), metrics.results_bytes.clone());
    let inputs = Inputs::new(Results::inputs(config.max_inputs_bytes(), metrics.inputs_bytes.clone()));
    let service = ImageGenerationService {
        lines,
        running,
        results,
        inputs,
        clients,
        allowances: Allowances::new(Arc::clone(&metrics)),
        audit,
        metrics: Arc::clone(&metrics),
        readiness: server.readiness(),
        started: Instant::now(),
        limits: Limits { max_images: config.max_images, max_side: config.max_side },
    };
    let service = ImageGenerationServer::new(service)
        .max_decoding_message_size(config.server.max_message_bytes)
        .max_encoding_message_size(config.server.max_message_bytes);
    server.service(service).serve()
}
