//! What every Darkroom service's main shares: configuration, telemetry, serving, health, deadlines, limits and drain.
//!
//! A service is a library with a `Config` and a `start`, and a main that hands both to [`run()`]:
//!
//! ```no_run
//! use darkroom_service_kit::{Metrics, Server, ServerConfig, ServiceConfig, ServiceHandle};
//!
//! #[derive(Debug, Clone, clap::Args, serde::Serialize)]
//! struct Config {
//!     #[command(flatten)]
//!     #[serde(flatten)]
//!     server: ServerConfig,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { server: ServerConfig::on_port(7001) }
//!     }
//! }
//!
//! impl ServiceConfig for Config {
//!     fn server(&self) -> &ServerConfig {
//!         &self.server
//!     }
//! }
//!
//! async fn start(config: Config) -> anyhow::Result<ServiceHandle> {
//!     let server = Server::bind("example", &config.server, Metrics::new("example")).await?;
//!     let readiness = server.readiness();
//!     // In the background: load what is to be served, then `set_ready`, or `fail` with the reason.
//!     tokio::spawn(async move { readiness.set_ready() });
//!     // server.service(VaeServer::new(edge).max_decoding_message_size(config.server.max_message_bytes)).serve()
//!     server.serve()
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     darkroom_service_kit::run("darkroom-example", "Shows the shape of a service", start)
//! }
//! ```

pub mod channel;
pub mod config;
pub mod deadline;
pub mod memory;
pub mod status;
pub mod telemetry;
pub mod trace;

mod calls;
mod connections;
mod drain;
mod http_port;
mod intake;
mod listener;
mod metrics;
mod model_args;
mod open_files;
mod peer;
mod readiness;
mod reloading;
mod request_body;
mod response_body;
mod run;
mod serve;
mod server;
mod server_config;
mod tls;

pub use config::ServiceConfig;
pub use drain::ServiceHandle;
pub use metrics::{Metric, MetricKind, Metrics};
pub use model_args::ModelArgs;
pub use peer::Peer;
pub use readiness::{Readiness, State};
pub use reloading::Reloading;
pub use run::run;
pub use server::Server;
pub use server_config::{LogFormat, ServerConfig};
pub use tls::ClientTls;
pub use trace::{TraceConfig, trace_id};

/// The version that every service reports: the workspace's.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod serving_tests;
