//! The settings that every service has: addresses, TLS, limits, keep-alive, drain and logs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{TraceConfig, telemetry};

/// HTTP for metrics and probes listens this far above the gRPC port.
const HTTP_PORT_OFFSET: u16 = 1000;

/// Flatten it into a service's own configuration with `#[command(flatten)]` and `#[serde(flatten)]`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Where gRPC listens; port 0 takes any free port.
    #[arg(long, value_name = "ADDR", help_heading = "Server")]
    pub grpc_addr: SocketAddr,
    /// Where HTTP listens: /metrics, /healthz and /readyz.
    #[arg(long, value_name = "ADDR", help_heading = "Server")]
    pub http_addr: SocketAddr,
    /// Certificate of the gRPC port with its chain, a PEM file: then the port speaks TLS alone. The HTTP port never does.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of that certificate, a PEM file. Both are read again when they change.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,
    /// Authorities, a PEM file: the gRPC port takes only clients with a certificate of one of them (mutual TLS).
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_client_ca: Option<PathBuf>,
    /// Largest message taken or sent, in bytes. A 2048x2048 picture is 12.6 million.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = at_least_one)]
    pub max_message_bytes: usize,
    /// Connections held at once, on each of the two ports. A further one gets the place of one without a running call.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = at_least_one)]
    pub max_connections: usize,
    /// Percent of connections, calls and memory for requests that one address may hold; 100 where all clients come by one proxy.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub max_address_percent: u8,
    /// Calls at once on all connections; further ones are refused.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = at_least_one)]
    pub max_calls: usize,
    /// Calls at once on one connection; further ones wait in the client.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_streams: u32,
    /// Largest size of a call's headers together, in bytes.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = clap::value_parser!(u32).range(1024..))]
    pub max_header_bytes: u32,
    /// Memory for requests that are coming in or wait for their answer, in MiB; further ones are refused.
    #[arg(long, value_name = "MIB", help_heading = "Server", value_parser = at_least_one)]
    pub max_intake_mib: usize,
    /// PING, SETTINGS and other frames a minute that a connection may send without getting answers; then it is closed.
    #[arg(long, value_name = "N", help_heading = "Server", value_parser = clap::value_parser!(u32).range(64..))]
    pub max_control_frames: u32,
    /// Seconds that a connection's handshake may take, and the head of a request that has begun.
    #[arg(long, value_name = "S", help_heading = "Server", value_parser = seconds())]
    pub handshake_seconds: u64,
    /// Seconds that a request may take to come in whole.
    #[arg(long, value_name = "S", help_heading = "Server", value_parser = seconds())]
    pub request_seconds: u64,
    /// Seconds after which a connection is closed whose client does not take what was sent to it.
    #[arg(long, value_name = "S", help_heading = "Server", value_parser = seconds())]
    pub send_stall_seconds: u64,
    /// Seconds after which a connection without a call is asked to leave.
    #[arg(long, value_name = "S", help_heading = "Server", value_parser = seconds())]
    pub idle_seconds: u64,
    /// Idle seconds after which a connection is asked for a sign of life.
    #[arg(long, value_name = "S", help_heading = "Server", value_parser = clap::value_parser!(u64).range(1..))]
    pub keepalive_seconds: u64,
    /// Seconds to wait for that sign before the connection is closed.
    #[arg(long, value_name = "S", help_heading = "Server", value_parser = clap::value_parser!(u64).range(1..))]
    pub keepalive_timeout_seconds: u64,
    /// Seconds that running calls get to finish after SIGTERM.
    #[arg(long, value_name = "S", help_heading = "Server")]
    pub drain_grace_seconds: u64,
    /// What to log: error, warn, info, debug or trace, also per module: "info,darkroom_denoiser=debug".
    #[arg(long, value_name = "FILTER", help_heading = "Server", value_parser = telemetry::check_filter)]
    pub log_level: String,
    /// How a log line looks.
    #[arg(long, value_name = "FORMAT", help_heading = "Server", value_enum)]
    pub log_format: LogFormat,
    /// Of traces.
    #[command(flatten)]
    #[serde(flatten)]
    pub trace: TraceConfig,
}

/// How log lines are written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl ServerConfig {
    /// The defaults of a service whose gRPC port is `port`: both ports on loopback, HTTP 1000 above gRPC. Port 0 is 0 for both.
    pub fn on_port(port: u16) -> Self {
        let http_port = if port == 0 { 0 } else { port.saturating_add(HTTP_PORT_OFFSET) };
        Self {
            grpc_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            http_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, http_port)),
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            max_message_bytes: 32 << 20,
            max_connections: 4096,
            max_address_percent: 75,
            max_calls: 4096,
            max_streams: 256,
            max_header_bytes: 16 << 10,
            max_intake_mib: 256,
            max_control_frames: 1024,
            handshake_seconds: 10,
            request_seconds: 30,
            send_stall_seconds: 60,
            idle_seconds: 300,
            keepalive_seconds: 30,
            keepalive_timeout_seconds: 10,
            drain_grace_seconds: 30,
            log_level: "info".into(),
            log_format: LogFormat::Text,
            trace: TraceConfig::default(),
        }
    }
}

/// No wait is longer than a year.
fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=31_536_000)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 is not in 1..".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}
