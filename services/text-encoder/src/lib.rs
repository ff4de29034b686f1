//! The text encoder: prompts in, prompt embeddings out.
//!
//! [`service`] is the gRPC edge and checks what comes in, [`stage`] is where the model stops, [`start`] puts them together.

mod config;
mod metrics;
mod service;
mod stage;

use std::sync::Arc;

use darkroom_proto::v1::text_encoder_server::TextEncoderServer;
use darkroom_service_kit::{Metrics, Server, ServiceHandle};
use darkroom_stage_kit::facts::Facts;

pub use config::Config;
use metrics::TextEncoderMetrics;
use service::TextEncoderService;

/// This stage's name in errors, logs and metrics.
const STAGE: &str = "text_encoder";

/// Binds the ports and loads the model in the background; the handle's `ready` follows the loading.
///
/// # Errors
/// When a port cannot be bound or the system gives no thread.
pub async fn start(config: Config) -> anyhow::Result<ServiceHandle> {
    let registry = Metrics::new(STAGE);
    let server = Server::bind(STAGE, &config.server, registry.clone()).await?;
    let counts = Arc::new(TextEncoderMetrics::new(&registry));
    let (worker, loaded) = stage::start(&config, counts.calls.clone())?;
    let facts = Facts::new(STAGE);
    let calls = Arc::clone(&counts.calls);
    facts.follow(loaded, server.readiness(), move |facts: &stage::TextEncoderFacts| calls.stage.loaded(&facts.info));
    let limit = config.server.max_message_bytes;
    let service = TextEncoderServer::new(TextEncoderService::new(worker, facts, counts));
    server.service(service.max_decoding_message_size(limit).max_encoding_message_size(limit)).serve()
}
