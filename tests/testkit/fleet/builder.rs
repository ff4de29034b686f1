//! The order for a fleet, which reads like a sentence, and its start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use darkroom_service_kit::{ModelArgs, ServerConfig, ServiceHandle};

use super::{Fleet, Service};
use crate::wait;

/// Changes a service's settings before it starts.
type Change<C> = Vec<Box<dyn Fn(&mut C) + Send + Sync>>;

/// The orchestrator looks at its workers more often than in earnest, so that tests see changes soon.
const CHECK_INTERVAL_MS: u64 = 50;

/// What fleet to start: `Fleet::with_pocket_model().denoisers(2).without(Service::Vae)`.
pub struct Builder {
    model: Option<PathBuf>,
    precision: String,
    denoisers: usize,
    left_out: Vec<Service>,
    orchestrator: Change<darkroom_orchestrator::Config>,
    text_encoder: Change<darkroom_text_encoder::Config>,
    denoiser: Change<darkroom_denoiser::Config>,
    vae: Change<darkroom_vae::Config>,
}

impl Builder {
    pub(super) fn new(model: Option<PathBuf>) -> Self {
        Self {
            model,
            precision: ModelArgs::default().precision,
            denoisers: 1,
            left_out: Vec::new(),
            orchestrator: Vec::new(),
            text_encoder: Vec::new(),
            denoiser: Vec::new(),
            vae: Vec::new(),
        }
    }

    /// The arithmetic of the model's stages.
    #[must_use]
    pub fn precision(mut self, name: &str) -> Self {
        self.precision = name.to_owned();
        self
    }

    /// So many denoisers instead of one.
    #[must_use]
    pub fn denoisers(mut self, count: usize) -> Self {
        self.denoisers = count;
        self
    }

    /// Nobody listens where the orchestrator looks for this stage.
    #[must_use]
    pub fn without(mut self, stage: Service) -> Self {
        self.left_out.push(stage);
        self
    }

    /// Changes the orchestrator's settings.
    #[must_use]
    pub fn orchestrator(mut self, change: impl Fn(&mut darkroom_orchestrator::Config) + Send + Sync + 'static) -> Self {
        self.orchestrator.push(Box::new(change));
        self
    }

    /// Changes the text encoder's settings.
    #[must_use]
    pub fn text_encoder(mut self, change: impl Fn(&mut darkroom_text_encoder::Config) + Send + Sync + 'static) -> Self {
        self.text_encoder.push(Box::new(change));
        self
    }

    /// Changes every denoiser's settings.
    #[must_use]
    pub fn denoiser(mut self, change: impl Fn(&mut darkroom_denoiser::Config) + Send + Sync + 'static) -> Self {
        self.denoiser.push(Box::new(change));
        self
    }

    /// Changes the autoencoder's settings.
    #[must_use]
    pub fn vae(mut self, change: impl Fn(&mut darkroom_vae::Config) + Send + Sync + 'static) -> Self {
        self.vae.push(Box::new(change));
        self
    }

    /// Starts it, and waits until every service takes calls and the orchestrator has found every worker. Where a stage is left
    /// out the orchestrator never takes calls; it has found the others then.
    ///
    /// # Errors
    /// Why a service does not start or is not ready, such as the loader's message.
    pub async fn start(self) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet { services: Vec::new() };
        for stage in Service::STAGES {
            let count = if stage == Service::Denoiser { self.denoisers } else { 1 };
            for _ in 0..if self.left_out.contains(&stage) { 0 } else { count } {
                fleet.services.push((stage, self.start_stage(stage).await?));
            }
        }
        // The stages' own messages first: the orchestrator would only say that one is missing.
        for (stage, handle) in &fleet.services {
            wait::within(&format!("readiness of the {}", stage.name()), handle.ready()).await?;
        }
        let orchestrator = self.start_orchestrator(&fleet).await?;
        if self.left_out.is_empty() {
            wait::within("readiness of the orchestrator", orchestrator.ready()).await?;
        }
        let stages = fleet.services.len();
        // First in the line, as it is drained first: its calls need the stages.
        fleet.services.insert(0, (Service::Orchestrator, orchestrator));
        fleet.sees_workers(stages).await?;
        Ok(fleet)
    }

    async fn start_stage(&self, stage: Service) -> anyhow::Result<ServiceHandle> {
        let (server, model) = (ServerConfig::on_port(0), self.model_args());
        match stage {
            Service::TextEncoder => {
                let config = darkroom_text_encoder::Config { server, model, ..Default::default() };
                darkroom_text_encoder::start(changed(config, &self.text_encoder)).await
            }
            Service::Denoiser => {
                let config = darkroom_denoiser::Config { server, model, ..Default::default() };
                darkroom_denoiser::start(changed(config, &self.denoiser)).await
            }
            Service::Vae => {
                let config = darkroom_vae::Config { server, model, ..Default::default() };
                darkroom_vae::start(changed(config, &self.vae)).await
            }
            Service::Orchestrator => anyhow::bail!("the orchestrator is no stage"),
        }
    }

    async fn start_orchestrator(&self, fleet: &Fleet) -> anyhow::Result<ServiceHandle> {
        let addresses = |stage| {
            let addresses: Vec<String> = fleet.addresses(stage).map(|addr| addr.to_string()).collect();
            if addresses.is_empty() { unused_address().map(|addr| vec![addr.to_string()]) } else { Ok(addresses) }
        };
        let config = darkroom_orchestrator::Config {
            server: ServerConfig::on_port(0),
            text_encoders: addresses(Service::TextEncoder)?,
            denoisers: addresses(Service::Denoiser)?,
            vaes: addresses(Service::Vae)?,
            check_interval_ms: CHECK_INTERVAL_MS,
            // Requests without an end are work for days, on a slow machine.
            queue_seconds: 1e9,
            ..Default::default()
        };
        darkroom_orchestrator::start(changed(config, &self.orchestrator)).await
    }

    fn model_args(&self) -> ModelArgs {
        let model = self.model.as_ref().map(|path| path.to_string_lossy().into_owned());
        ModelArgs { model, precision: self.precision.clone(), ..Default::default() }
    }
}

fn changed<C>(mut config: C, changes: &Change<C>) -> C {
    for change in changes {
        change(&mut config);
    }
    config
}

/// An address that was free a moment ago: nobody listens there.
fn unused_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
