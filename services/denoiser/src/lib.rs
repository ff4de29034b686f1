//! The denoiser: embeddings and a seed in, latents out, many requests in one batch.
//!
//! [`request`] checks a message and makes an engine's request of it, [`checkpoint`] does so for the place where it goes on,
//! [`service`] is the gRPC edge, [`stage`] is where the model stops, [`warm_up`] finds out how much runs at once, [`start`]
//! puts them together.

mod checkpoint;
mod config;
mod events;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod init;
mod metrics;
mod request;
mod service;
mod stage;
mod warm_up;

use std::sync::Arc;

use darkroom_engine::Denoiser;
use darkroom_proto::v1::denoiser_server::DenoiserServer;
use darkroom_service_kit::{Metrics, Readiness, Server, ServiceHandle, State};
use darkroom_stage_kit::facts::Facts;

pub use config::Config;
use metrics::DenoiserMetrics;
use service::DenoiserService;

/// This stage's name in errors, logs and metrics.
const STAGE: &str = "denoiser";

/// Binds the ports and loads the model in the background; the handle's `ready` follows the loading.
///
/// # Errors
/// When a port cannot be bound or the system gives no thread.
pub async fn start(config: Config) -> anyhow::Result<ServiceHandle> {
    let registry = Metrics::new(STAGE);
    let server = Server::bind(STAGE, &config.server, registry.clone()).await?;
    let counts = Arc::new(DenoiserMetrics::new(&registry));
    let (engine, loaded) = stage::start(&config, counts.clone())?;
    let facts = Facts::new(STAGE);
    let seen = Arc::clone(&counts);
    facts.follow(loaded, server.readiness(), move |facts: &stage::DenoiserFacts| seen.stage.loaded(&facts.info));
    let engine = Arc::new(engine);
    tokio::spawn(leave(server.readiness(), Arc::clone(&engine)));
    let limit = config.server.max_message_bytes;
    let service = DenoiserServer::new(DenoiserService::new(engine, facts, counts, &config));
    server.service(service.max_decoding_message_size(limit).max_encoding_message_size(limit)).serve()
}

/// Once the service drains, running and waiting requests are told, so that they can go on elsewhere.
async fn leave(readiness: Readiness, engine: Arc<Denoiser>) {
    let mut states = readiness.subscribe();
    drop(readiness);
    // An error means that the service is gone, and its engine with it.
    if states.wait_for(|state| *state == State::Draining).await.is_ok() {
        engine.begin_drain();
    }
}
