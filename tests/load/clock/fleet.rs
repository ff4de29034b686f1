//! Many clocks in one process, each on a port of its own.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use darkroom_proto::v1::denoiser_server::DenoiserServer;
use darkroom_proto::v1::text_encoder_server::TextEncoderServer;
use darkroom_proto::v1::vae_server::VaeServer;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::denoiser::ClockDenoiser;
use super::facts::Facts;
use super::pure::{ClockTextEncoder, ClockVae, Pure};

/// Calls at once on one connection; the real services' default.
const MOST_STREAMS: u32 = 256;
/// HTTP/2's windows as the services' own channels have them.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How many of each.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of what.
    pub facts: Facts,
    /// Denoisers.
    pub denoisers: u16,
    /// Text encoders.
    pub text_encoders: u16,
    /// VAEs.
    pub vaes: u16,
    /// The first port, the denoisers' first; the others follow. 0: any free ones.
    pub first_port: u16,
}

/// Where they listen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Addresses {
    /// Of the denoisers.
    pub denoisers: Vec<SocketAddr>,
    /// Of the text encoders.
    pub text_encoders: Vec<SocketAddr>,
    /// Of the VAEs.
    pub vaes: Vec<SocketAddr>,
}

impl Addresses {
    /// As the orchestrator takes them.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let list = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let lists =
            [("--text-encoders", &self.text_encoders), ("--denoisers", &self.denoisers), ("--vaes", &self.vaes)];
        lists.into_iter().flat_map(|(flag, addresses)| [flag.to_owned(), list(addresses)]).collect()
    }
}

/// A running fleet. Dropping it takes no new connections and stops the clocks.
pub struct ClockFleet {
    /// Where it listens.
    pub addresses: Addresses,
    /// Each denoiser, in the order of the addresses.
    pub denoisers: Vec<ClockDenoiser>,
    tasks: JoinSet<()>,
}

impl ClockFleet {
    /// Binds all ports and serves.
    ///
    /// # Errors
    /// When a port cannot be had.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let mut fleet = Self { addresses: Addresses::default(), denoisers: Vec::new(), tasks: JoinSet::new() };
        let mut next = plan.first_port;
        let mut port = move || {
            let port = next;
            next = if next == 0 { 0 } else { next.saturating_add(1) };
            port
        };
        for _ in 0..plan.denoisers {
            let denoiser = ClockDenoiser::new(&plan.facts);
            let address = fleet.serve(port(), Routes::new(DenoiserServer::new(denoiser.clone()))).await?;
            fleet.addresses.denoisers.push(address);
            fleet.tasks.spawn(denoiser.clone().run());
            fleet.denoisers.push(denoiser);
        }
        for _ in 0..plan.text_encoders {
            let service = ClockTextEncoder(Pure::new(&plan.facts, plan.facts.text_seconds));
            let address = fleet.serve(port(), Routes::new(TextEncoderServer::new(service))).await?;
            fleet.addresses.text_encoders.push(address);
        }
        for _ in 0..plan.vaes {
            let service = ClockVae(Pure::new(&plan.facts, plan.facts.vae_seconds));
            let address = fleet.serve(port(), Routes::new(VaeServer::new(service))).await?;
            fleet.addresses.vaes.push(address);
        }
        Ok(fleet)
    }

    async fn serve(&mut self, port: u16, routes: Routes) -> anyhow::Result<SocketAddr> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
        let address = listener.local_addr()?;
        // A new reporter says SERVING, which is so.
        let health = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        let server = Server::builder()
            .max_concurrent_streams(MOST_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_routes(routes.add_service(health))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        self.tasks.spawn(async move {
            if let Err(error) = server.await {
                eprintln!("{address} is served no more: {error}");
            }
        });
        Ok(address)
    }
}
