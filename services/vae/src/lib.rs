//! The autoencoder: latents to pictures and back.
//!
//! [`service`] is the gRPC edge and checks what comes in, [`picture`] is the arithmetic between bytes and the model's
//! numbers, [`finish`] checks and signs what leaves ([`watermark`]), [`stage`] is where the model stops, [`start`] puts them together.

mod config;
mod finish;
mod metrics;
mod picture;
mod service;
mod stage;
pub mod watermark;

use std::sync::Arc;

use darkroom_proto::v1::vae_server::VaeServer;
use darkroom_service_kit::{Metrics, Server, ServiceHandle};
use darkroom_stage_kit::facts::Facts;

pub use config::{Config, Policy, Switch};
use metrics::VaeMetrics;
use service::VaeService;

/// This stage's name in errors, logs and metrics.
const STAGE: &str = "vae";

/// Binds the ports and loads the model in the background; the handle's `ready` follows the loading.
///
/// # Errors
/// When a port cannot be bound or the system gives no thread.
pub async fn start(config: Config) -> anyhow::Result<ServiceHandle> {
    let registry = Metrics::new(STAGE);
    let server = Server::bind(STAGE, &config.server, registry.clone()).await?;
    let counts = Arc::new(VaeMetrics::new(&registry));
    let (worker, loaded) = stage::start(&config, counts.calls.clone())?;
    let facts = Facts::new(STAGE);
    let told = Arc::clone(&counts);
    facts.follow(loaded, server.readiness(), move |facts: &stage::VaeFacts| {
        facts.log();
        told.calls.stage.loaded(&facts.info);
        told.policy(&facts.finishing);
    });
    let limit = config.server.max_message_bytes;
    let service = VaeServer::new(VaeService::new(worker, facts, counts, config.max_side));
    server.service(service.max_decoding_message_size(limit).max_encoding_message_size(limit)).serve()
}
