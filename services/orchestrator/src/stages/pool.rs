//! All workers of all stages, as they come and go, and the choice among them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use darkroom_service_kit::channel;
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;

use super::choice::choose;
use super::discovery::{self, Resolver};
use super::target::{Name, Target};
use super::{Info, Lease, Stage, StageError, Worker, watch};
use crate::config::Config;
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::scheduler::WorkerSpeed;
use crate::selection::{Identity, Pins, Selection, select};

/// What an evaluation is taken to last while no worker of the stage has measured one: any number orders them alike.
const UNMEASURED: f64 = 1.0;

/// All workers.
pub(crate) struct Stages {
    workers: Mutex<Vec<Arc<Worker>>>,
    names: Vec<(Stage, Name)>,
    /// What was chosen last.
    served: Mutex<Option<Pins>>,
    /// Counts choices.
    turns: AtomicU64,
    /// Held while a change is told: what is told last is what is so.
    telling: Mutex<()>,
    changes: signal::Sender<()>,
    metrics: Arc<OrchestratorMetrics>,
    interval: Duration,
    stopped: CancellationToken,
}

/// A piece of work that looks for a worker.
#[derive(Debug, Clone)]
pub(crate) struct Errand<'a> {
    pub(crate) stage: Stage,
    /// Only workers of this identity.
    pub(crate) pin: &'a Identity,
    /// Addresses that failed it before: they are taken when nobody else is there.
    pub(crate) failed: &'a BTreeSet<String>,
    /// What it will cost; 1 in stages that count calls.
    pub(crate) evaluations: u64,
}

impl Stages {
    /// Makes a lazy channel to each address; names get theirs when they are resolved.
    ///
    /// # Errors
    /// For an empty list or an entry that is no address; the message names the key.
    pub(crate) fn new(
        config: &Config,
        metrics: Arc<OrchestratorMetrics>,
        stopped: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let lists = [
            (Stage::TextEncoder, "text_encoders", &config.text_encoders),
            (Stage::Denoiser, "denoisers", &config.denoisers),
            (Stage::Vae, "vaes", &config.vaes),
        ];
        let (mut workers, mut names) = (Vec::new(), Vec::new());
        for (stage, key, entries) in lists {
            anyhow::ensure!(!entries.is_empty(), "{key} is empty, name at least one worker's address");
            for entry in entries {
                match entry.parse().with_context(|| key.to_owned())? {
                    Target::Address(address) => {
                        let channel =
                            channel::lazy(&address).with_context(|| format!("{key}: {address:?} is no address"))?;
                        workers.push(Arc::new(Worker::new(stage, address, channel)));
                    }
                    Target::Name(name) => names.push((stage, name)),
                }
            }
        }
        Ok(Arc::new(Self {
            workers: Mutex::new(workers),
            names,
            served: Mutex::default(),
            turns: AtomicU64::new(0),
            telling: Mutex::default(),
            changes: signal::Sender::new(()),
            metrics,
            interval: config.check_interval(),
            stopped,
        }))
    }

    /// Starts to look at each worker's health and model, and to resolve the names, until the service stops.
    pub(crate) fn watch(self: &Arc<Self>, resolver: &Arc<dyn Resolver>, resolve_interval: Duration) {
        for worker in self.workers() {
            self.spawn(watch::watch(Arc::clone(self), worker, self.interval));
        }
        for (stage, name) in &self.names {
            let (stages, resolver) = (Arc::clone(self), Arc::clone(resolver));
            self.spawn(discovery::follow(stages, resolver, *stage, name.clone(), resolve_interval));
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(task).await });
    }

    /// Wakes whenever a worker came, went or changed.
    pub(crate) fn subscribe(&self) -> signal::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        self.lock().clone()
    }

    /// The model that the chosen ready workers run together.
    ///
    /// # Errors
    /// [`StageError`] when a stage is away or no parts fit.
    pub(crate) fn model(&self) -> Result<Model, StageError> {
        match self.selection()? {
            Some(selection) => Ok(selection.model),
            None => {
                let workers = self.workers();
                let ready = |stage| workers.iter().any(|worker| worker.stage == stage && worker.info().is_some());
                let away = Stage::ALL.into_iter().find(|stage| !ready(*stage)).unwrap_or(Stage::Denoiser);
                Err(self.away(away, "no worker is ready"))
            }
        }
    }

    fn selection(&self) -> Result<Option<Selection>, StageError> {
        let infos: Vec<Arc<Info>> = self.workers().iter().filter_map(|worker| worker.info()).collect();
        let infos: Vec<&Info> = infos.iter().map(AsRef::as_ref).collect();
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let selection = select(&infos, served.as_ref())?;
        if let Some(selection) = &selection {
            *served = Some(selection.model.pins.clone());
        }
        Ok(selection)
    }

    /// As [`Stages::model`], but waits up to `patience` for a stage that is away.
    ///
    /// # Errors
    /// As [`Stages::model`], with what it is at the end.
    pub(crate) async fn model_within(&self, patience: Duration) -> Result<Model, StageError> {
        self.within(patience, || self.model()).await
    }

    /// The worker with the least work before it.
    ///
    /// # Errors
    /// [`StageError::Away`] when there is none, with what each of the stage's workers lacks.
    pub(crate) fn lease(&self, errand: &Errand<'_>) -> Result<Lease, StageError> {
        let workers = self.fitting(errand.stage, errand.pin);
        let (now, turn) = (Instant::now(), self.turns.fetch_add(1, Ordering::Relaxed) + 1);
        let measured: Vec<f64> = workers.iter().filter_map(|worker| worker.step_seconds()).collect();
        let typical =
            if measured.is_empty() { UNMEASURED } else { measured.iter().sum::<f64>() / measured.len() as f64 };
        let candidates: Vec<_> = workers
            .iter()
            .map(|worker| worker.candidate(typical, errand.failed.contains(&worker.address), now))
            .collect();
        match choose(&candidates) {
            Some(chosen) => Ok(Lease::take(&workers[chosen], errand.evaluations, turn)),
            None => Err(self.away(errand.stage, &format!("no worker of {} is ready", errand.pin))),
        }
    }

    /// As [`Stages::lease`], but waits up to `patience` for a worker.
    ///
    /// # Errors
    /// As [`Stages::lease`], with what it is at the end.
    pub(crate) async fn lease_within(&self, errand: &Errand<'_>, patience: Duration) -> Result<Lease, StageError> {
        self.within(patience, || self.lease(errand)).await
    }

    /// Whether somebody else than `address` could take over.
    pub(crate) fn has_another(&self, stage: Stage, pin: &Identity, address: &str) -> bool {
        self.fitting(stage, pin).iter().any(|worker| worker.address != address)
    }

    /// Whether there is somebody who has not failed the errand yet.
    pub(crate) fn has_untried(&self, errand: &Errand<'_>) -> bool {
        self.fitting(errand.stage, errand.pin).iter().any(|worker| !errand.failed.contains(&worker.address))
    }

    /// How fast the denoisers are that are used.
    pub(crate) fn denoiser_speeds(&self) -> Vec<WorkerSpeed> {
        let Ok(Some(Selection { model, .. })) = self.selection() else { return Vec::new() };
        let pixels = model.default_pixels();
        self.fitting(Stage::Denoiser, &model.pins.denoiser).iter().filter_map(|worker| worker.speed(pixels)).collect()
    }

    /// Workers that are ready and are what `pin` says.
    fn fitting(&self, stage: Stage, pin: &Identity) -> Vec<Arc<Worker>> {
        let fits = |worker: &Arc<Worker>| {
            worker.stage == stage && worker.info().is_some_and(|info| Identity::of(&info) == *pin)
        };
        self.lock().iter().filter(|worker| fits(worker)).cloned().collect()
    }

    async fn within<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut() -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        let until = Instant::now() + patience;
        let mut changes = self.subscribe();
        loop {
            match look() {
                Err(StageError::Away { .. }) if Instant::now() < until => {
                    // Both outcomes lead to another look.
                    _ = tokio::time::timeout_at(until.into(), changes.changed()).await;
                }
                settled => return settled,
            }
        }
    }

    /// A name has other addresses than before.
    pub(super) fn renamed(self: &Arc<Self>, stage: Stage, come: &[&SocketAddr], gone: &[&SocketAddr]) {
        for address in come.iter().map(ToString::to_string) {
            let known = self.lock().iter().find(|worker| worker.stage == stage && worker.address == address).cloned();
            if let Some(worker) = known {
                worker.set_retired(false);
                continue;
            }
            match channel::lazy(&address) {
                Ok(channel) => {
                    let worker = Arc::new(Worker::new(stage, address, channel));
                    self.lock().push(Arc::clone(&worker));
                    self.spawn(watch::watch(Arc::clone(self), worker, self.interval));
                }
                Err(error) => tracing::warn!(stage = stage.name(), address, "cannot be called: {error}"),
            }
        }
        for address in gone.iter().map(ToString::to_string) {
            if let Some(worker) = self.lock().iter().find(|worker| worker.stage == stage && worker.address == address) {
                worker.set_retired(true);
            }
        }
        self.changed();
    }

    /// A retired worker has nothing left to do. Says whether it could be let go: its name may have come back.
    pub(super) fn forget(&self, worker: &Arc<Worker>) -> bool {
        let mut workers = self.lock();
        if !worker.is_forgotten() {
            return false;
        }
        workers.retain(|other| !Arc::ptr_eq(other, worker));
        true
    }

    /// A worker came, went or changed.
    pub(super) fn changed(&self) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let selection = self.selection();
        let workers = self.workers();
        for worker in &workers {
            let chosen = selection.as_ref().ok().and_then(Option::as_ref);
            let info = worker.info();
            worker.set_unfit(chosen.zip(info.as_deref()).and_then(|(chosen, info)| chosen.unfit(info)));
        }
        for stage in Stage::ALL {
            let states = workers.iter().filter(|worker| worker.stage == stage).map(|worker| worker.state());
            self.metrics.set_workers(stage, states);
        }
        self.changes.send_replace(());
    }

    fn away(&self, stage: Stage, what: &str) -> StageError {
        let workers = self.workers();
        let problems: Vec<_> =
            workers.iter().filter(|worker| worker.stage == stage).map(|worker| worker.describe()).collect();
        let names = self.names.iter().filter(|(of, _)| *of == stage).map(|(_, name)| &name.host);
        let why = match problems.is_empty() {
            true => names.map(|host| format!("{host} leads to nobody")).collect::<Vec<_>>().join("; "),
            false => problems.join("; "),
        };
        StageError::Away { stage, why: format!("{what}: {why}") }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
