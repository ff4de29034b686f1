//! Four services in this process, on any free ports, as a test orders them.
//!
//! ```no_run
//! use testkit::fleet::{Fleet, Service};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let fleet = Fleet::with_pocket_model().denoisers(2).start().await?;
//! let client = fleet.client().await?;
//! // …
//! let steps = fleet.metrics(Service::Denoiser).await?.sum("darkroom_steps_total", &[]);
//! # Ok(())
//! # }
//! ```

mod builder;
mod service;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use darkroom_client::Client;
use darkroom_service_kit::{ServiceHandle, channel};
use tonic::transport::Channel;

use crate::scrape::{Scrape, http_get};
use crate::wait;
pub use builder::Builder;
pub use service::Service;

/// Running services. Dropping it stops them at once.
pub struct Fleet {
    /// The orchestrator first.
    services: Vec<(Service, ServiceHandle)>,
}

impl Fleet {
    /// A fleet that runs the embedded model.
    #[must_use]
    pub fn with_pocket_model() -> Builder {
        Builder::new(None)
    }

    /// A fleet that runs the model at `path`: a folder or a file.
    #[must_use]
    pub fn with_model(path: impl Into<PathBuf>) -> Builder {
        Builder::new(Some(path.into()))
    }

    /// A client of the orchestrator.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(self.address(Service::Orchestrator)?.to_string()).await?)
    }

    /// A channel to a service (the first of its kind) for generated clients.
    ///
    /// # Errors
    /// When the fleet has none.
    pub fn channel(&self, service: Service) -> anyhow::Result<Channel> {
        channel::lazy(&self.address(service)?.to_string())
    }

    /// Waits until the orchestrator has found so many workers ready, in all.
    ///
    /// # Errors
    /// When it does not find them.
    pub async fn sees_workers(&self, count: usize) -> anyhow::Result<()> {
        let client = self.client().await?;
        wait::until(&format!("{count} ready workers"), async || {
            let ready = client.server_info().await?.workers.iter().filter(|worker| worker.ready).count();
            Ok((ready == count).then_some(()))
        })
        .await
    }

    /// What a service (the first of its kind) counts now.
    ///
    /// # Errors
    /// When the fleet has none, or its page is not in the format.
    pub async fn metrics(&self, service: Service) -> anyhow::Result<Scrape> {
        let (code, page) = http_get(self.handle(service)?.http_addr, "/metrics").await?;
        anyhow::ensure!(code == 200, "/metrics of the {} answers {code}: {page}", service.name());
        Scrape::parse(&page)
    }

    /// Waits until a sum over a service's samples is at least `least`, and gives it.
    ///
    /// # Errors
    /// When it does not become so large.
    pub async fn metric_reaches(
        &self,
        service: Service,
        name: &str,
        labels: &[(&str, &str)],
        least: f64,
    ) -> anyhow::Result<f64> {
        wait::until(&format!("{name}{labels:?} of at least {least}"), async || {
            let sum = self.metrics(service).await?.sum(name, labels);
            Ok((sum >= least).then_some(sum))
        })
        .await
    }

    /// Where a service's gRPC listens (the first of its kind).
    ///
    /// # Errors
    /// When the fleet has none.
    pub fn address(&self, service: Service) -> anyhow::Result<SocketAddr> {
        Ok(self.handle(service)?.grpc_addr)
    }

    /// Where all services of a kind listen.
    pub fn addresses(&self, service: Service) -> impl Iterator<Item = SocketAddr> {
        self.services.iter().filter(move |(kind, _)| *kind == service).map(|(_, handle)| handle.grpc_addr)
    }

    /// A service's handle (the first of its kind).
    ///
    /// # Errors
    /// When the fleet has none.
    pub fn handle(&self, service: Service) -> anyhow::Result<&ServiceHandle> {
        let found = self.services.iter().find(|(kind, _)| *kind == service);
        found.map(|(_, handle)| handle).with_context(|| format!("the fleet has no {}", service.name()))
    }

    /// Stops all services of a kind, letting their calls finish.
    ///
    /// # Errors
    /// When calls outstayed the grace period.
    pub async fn stop(&mut self, service: Service) -> anyhow::Result<()> {
        for (_, handle) in self.services.extract_if(.., |(kind, _)| *kind == service) {
            handle.drain().await?;
        }
        Ok(())
    }

    /// Stops all services of a kind at once, as a crash would, cutting their calls.
    pub fn kill(&mut self, service: Service) {
        self.services.retain(|(kind, _)| *kind != service);
    }

    /// Stops everything, the orchestrator first, letting calls finish.
    ///
    /// # Errors
    /// When calls outstayed the grace period.
    pub async fn drain(self) -> anyhow::Result<()> {
        for (service, handle) in self.services {
            handle.drain().await.with_context(|| format!("draining the {}", service.name()))?;
        }
        Ok(())
    }
}
