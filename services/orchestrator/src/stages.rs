//! The workers of the three stages: who they are, who is ready, and who gets the next call.

pub(crate) mod calls;
pub(crate) mod denoising;
mod watch;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use darkroom_proto::v1::{DenoiserInfo, StageInfo, TextEncoderInfo, VaeInfo};
use darkroom_service_kit::channel;
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;

pub(crate) use worker::{Lease, Worker};

use crate::config::Config;
use crate::metrics::OrchestratorMetrics;
use crate::model::{Member, Misfit, Model};

/// One of the three kinds of model service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    TextEncoder,
    Denoiser,
    Vae,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::TextEncoder, Self::Denoiser, Self::Vae];

    /// As messages, metrics and the API name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Denoiser => "denoiser",
            Self::Vae => "vae",
        }
    }
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Info {
    TextEncoder(TextEncoderInfo),
    Denoiser(DenoiserInfo),
    Vae(VaeInfo),
}

impl Info {
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::TextEncoder(_) => Stage::TextEncoder,
            Self::Denoiser(_) => Stage::Denoiser,
            Self::Vae(_) => Stage::Vae,
        }
    }

    /// The part that all stages say.
    pub(crate) fn common(&self) -> Option<&StageInfo> {
        match self {
            Self::TextEncoder(info) => info.stage.as_ref(),
            Self::Denoiser(info) => info.stage.as_ref(),
            Self::Vae(info) => info.stage.as_ref(),
        }
    }
}

/// Why no request can be served now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StageError {
    /// A stage has no ready worker.
    #[error("{stage}: {why}", stage = .stage.name())]
    Away {
        /// The stage.
        stage: Stage,
        /// What each of its workers lacks.
        why: String,
    },
    /// The workers' models do not belong together.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// All workers, from a static list of addresses.
pub(crate) struct Stages {
    workers: Vec<Arc<Worker>>,
    changes: signal::Sender<()>,
    metrics: Arc<OrchestratorMetrics>,
}

impl Stages {
    /// Makes a lazy channel to each address.
    ///
    /// # Errors
    /// For an empty list or an address that is none; the message names the key.
    pub(crate) fn new(config: &Config, metrics: Arc<OrchestratorMetrics>) -> anyhow::Result<Arc<Self>> {
        let lists = [
            (Stage::TextEncoder, "text_encoders", &config.text_encoders),
            (Stage::Denoiser, "denoisers", &config.denoisers),
            (Stage::Vae, "vaes", &config.vaes),
        ];
        let mut workers = Vec::new();
        for (stage, key, addresses) in lists {
            anyhow::ensure!(!addresses.is_empty(), "{key} is empty, name at least one worker's address");
            for address in addresses {
                let channel = channel::lazy(address).with_context(|| format!("{key}: {address:?} is no address"))?;
                workers.push(Arc::new(Worker::new(stage, address.clone(), channel)));
            }
        }
        Ok(Arc::new(Self { workers, changes: signal::Sender::new(()), metrics }))
    }

    /// Looks at each worker's health and model every `interval`, until `stopped`.
    pub(crate) fn watch(self: &Arc<Self>, interval: Duration, stopped: &CancellationToken) {
        for worker in &self.workers {
            let watching = watch::watch(Arc::clone(self), Arc::clone(worker), interval);
            let stopped = stopped.clone();
            tokio::spawn(async move { stopped.run_until_cancelled(watching).await });
        }
    }

    /// Wakes whenever a worker came, went or changed.
    pub(crate) fn subscribe(&self) -> signal::Receiver<()> {
        self.changes.subscribe()
    }

    /// The model that the ready workers run together.
    ///
    /// # Errors
    /// [`StageError`] when a stage is away or the parts do not fit.
    pub(crate) fn model(&self) -> Result<Model, StageError> {
        let infos: Vec<(&str, Arc<Info>)> =
            self.workers.iter().filter_map(|worker| Some((worker.address.as_str(), worker.info()?))).collect();
        let members: Vec<Member<'_>> = infos.iter().map(|(address, info)| (*address, info.as_ref())).collect();
        for stage in Stage::ALL {
            if !members.iter().any(|(_, info)| info.stage() == stage) {
                return Err(self.away(stage));
            }
        }
        // A worker is asked for its own stage's info only, so all three parts are there.
        Model::of(&members)?.ok_or_else(|| self.away(Stage::Denoiser))
    }

    /// As [`Stages::model`], but waits up to `patience` for a stage that is away.
    ///
    /// # Errors
    /// As [`Stages::model`], with what it is at the end.
    pub(crate) async fn model_within(&self, patience: Duration) -> Result<Model, StageError> {
        let until = Instant::now() + patience;
        let mut changes = self.subscribe();
        loop {
            match self.model() {
                Err(StageError::Away { .. }) if Instant::now() < until => {
                    // Both outcomes lead to another look.
                    _ = tokio::time::timeout_at(until.into(), changes.changed()).await;
                }
                settled => return settled,
            }
        }
    }

    /// The least busy ready worker of `stage`.
    ///
    /// # Errors
    /// [`StageError::Away`] when there is none.
    pub(crate) fn lease(&self, stage: Stage) -> Result<Lease, StageError> {
        let ready = self.workers.iter().filter(|worker| worker.stage == stage && worker.info().is_some());
        ready.min_by_key(|worker| worker.outstanding()).map(Lease::take).ok_or_else(|| self.away(stage))
    }

    /// Pictures that all ready denoisers take at once.
    pub(crate) fn slots(&self) -> usize {
        let max_batch = |worker: &Arc<Worker>| match worker.info().as_deref() {
            Some(Info::Denoiser(info)) => info.max_batch.max(1) as usize,
            _ => 0,
        };
        self.workers.iter().map(max_batch).sum()
    }

    pub(crate) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// A worker came, went or changed.
    fn changed(&self) {
        for stage in Stage::ALL {
            let of_stage = || self.workers.iter().filter(|worker| worker.stage == stage);
            let ready = of_stage().filter(|worker| worker.info().is_some()).count();
            self.metrics.set_workers(stage, ready, of_stage().count() - ready);
        }
        self.changes.send_replace(());
    }

    fn away(&self, stage: Stage) -> StageError {
        let problems = self.workers.iter().filter(|worker| worker.stage == stage).map(|worker| worker.describe());
        let why = format!("no worker is ready: {}", problems.collect::<Vec<_>>().join("; "));
        StageError::Away { stage, why }
    }
}
