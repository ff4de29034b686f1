//! All workers of all stages that serve one model, as they come and go, and what they serve together.
//!
//! Whatever changes is told by one task, one state of the fleet after the other: what is told last is what is so. Requests
//! read the last state, and only those for whom nobody is there wait for the next.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use darkroom_service_kit::{ClientTls, channel};
use tokio::sync::{Notify, watch as signal};
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::absence::Absence;
use super::discovery::{self, Resolver};
use super::gate::{Gate, Gates};
use super::heartbeat::Heartbeat;
use super::roll::Roll;
use super::served::Served;
use super::target::{Name, Target};
use super::{Lease, Stage, StageError, Worker, watch};
use crate::config::{Config, LineConfig};
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::selection::{Accepted, Identity};

const NOT_READY: &str = "no worker is ready";

/// All workers.
pub(crate) struct Stages {
    /// Each stage's. Locked while one is chosen: two who choose at once do not choose the same.
    rolls: [Mutex<Roll>; 3],
    /// Places for calls, by stage. A denoiser's are the scheduler's to give, not this one's.
    gates: [Arc<Gate>; 3],
    names: Vec<(Stage, Name)>,
    /// `None` where no TLS is spoken with them.
    tls: Option<ClientTls>,
    /// Models that the workers may run.
    accepted: Accepted,
    /// Something changed that was not told yet.
    stirred: Notify,
    served: signal::Sender<Arc<Served>>,
    /// Why waiting is in vain, once it is.
    lost: signal::Sender<Option<StageError>>,
    heartbeat: Heartbeat,
    metrics: Arc<OrchestratorMetrics>,
    interval: Duration,
    /// How long requests that were admitted wait for a stage that is away.
    recovery_wait: Duration,
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
        line: &LineConfig,
        gates: &mut Gates,
        metrics: Arc<OrchestratorMetrics>,
        stopped: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let tls = config.stages_tls()?;
        let (mut rolls, mut names): ([Roll; 3], Vec<_>) = Default::default();
        for (stage, key, entries) in line.lists() {
            anyhow::ensure!(!entries.is_empty(), "{key} is empty, name at least one worker's address");
            for entry in entries {
                match entry.parse().with_context(|| key.to_owned())? {
                    Target::Address(address) => {
                        let channel = channel::lazy_over(tls.as_ref(), &address, None);
                        let channel = channel.with_context(|| format!("{key}: {address:?} is no address"))?;
                        rolls[stage as usize].add(Arc::new(Worker::new(stage, address, channel)));
                    }
                    Target::Name(name) => names.push((stage, name)),
                }
            }
        }
        let nothing = away(rolls[Stage::TextEncoder as usize].workers(), &names, Stage::TextEncoder, NOT_READY);
        Ok(Arc::new(Self {
            rolls: rolls.map(Mutex::new),
            gates: line.lists().map(|(stage, _, entries)| gates.of(stage, entries)),
            names,
            tls,
            accepted: line.accepted.clone(),
            stirred: Notify::new(),
            served: signal::Sender::new(Arc::new(Served::nothing(nothing))),
            lost: signal::Sender::new(None),
            heartbeat: Heartbeat::new(),
            metrics,
            interval: config.check_interval(),
            recovery_wait: config.recovery_wait(),
            stopped,
        }))
    }

    /// Starts to look at each worker's health and model, and to resolve the names, until the service stops.
    pub(crate) fn watch(self: &Arc<Self>, resolver: &Arc<dyn Resolver>, resolve_interval: Duration) {
        self.spawn(Arc::clone(self).tell());
        let stages = Arc::clone(self);
        self.spawn(async move { stages.heartbeat.run().await });
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

    /// Each state of the fleet, as it is told.
    pub(crate) fn subscribe(&self) -> signal::Receiver<Arc<Served>> {
        self.served.subscribe()
    }

    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        Stage::ALL.iter().flat_map(|stage| self.roll(*stage).workers().to_vec()).collect()
    }

    pub(super) fn gate(&self, stage: Stage) -> &Arc<Gate> {
        &self.gates[stage as usize]
    }

    pub(crate) fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// The model that the chosen ready workers run together.
    ///
    /// # Errors
    /// [`StageError`] when a stage is away or no parts fit.
    pub(crate) fn model(&self) -> Result<Arc<Model>, StageError> {
        self.served.borrow().model.clone()
    }

    /// What was served last, now or not; `None` where nothing ever was.
    pub(crate) fn last_model(&self) -> Option<Arc<Model>> {
        self.served.borrow().last().cloned()
    }

    /// As [`Stages::model`], but waits up to `patience` for a stage that is away.
    ///
    /// # Errors
    /// As [`Stages::model`], with what it is at the end.
    pub(crate) async fn model_within(&self, patience: Duration) -> Result<Arc<Model>, StageError> {
        self.within(patience, || self.model()).await
    }

    /// Ends when a stage has been away for longer than admitted requests wait, or when workers do not fit each other. However
    /// many listen, they are woken for that alone.
    pub(crate) fn lost(&self) -> impl Future<Output = StageError> + Send + use<> {
        let mut lost = self.lost.subscribe();
        async move {
            loop {
                let error = lost.borrow_and_update().clone();
                match error {
                    Some(error) => return error,
                    // The service has stopped, which ends its requests.
                    None if lost.changed().await.is_err() => return std::future::pending().await,
                    None => {}
                }
            }
        }
    }

    /// The worker with the least work before it.
    ///
    /// # Errors
    /// [`StageError::Away`] when there is none, with what each of the stage's workers lacks.
    pub(crate) fn lease(&self, errand: &Errand<'_>) -> Result<Lease, StageError> {
        let mut roll = self.roll(errand.stage);
        roll.lease(errand, Instant::now()).ok_or_else(|| {
            let what = format!("no worker of {} is ready", errand.pin);
            away(roll.workers(), &self.names, errand.stage, &what)
        })
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
        self.roll(stage).serving(pin).any(|worker| worker.address != address)
    }

    /// Whether there is somebody who has not failed the errand yet.
    pub(crate) fn has_untried(&self, errand: &Errand<'_>) -> bool {
        self.roll(errand.stage).serving(errand.pin).any(|worker| !errand.failed.contains(&worker.address))
    }

    async fn within<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut() -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        match look() {
            Err(StageError::Away { .. }) if !patience.is_zero() => {}
            settled => return settled,
        }
        let until = Instant::now() + patience;
        let mut states = self.subscribe();
        loop {
            match look() {
                Err(StageError::Away { .. }) if Instant::now() < until => {
                    // Both outcomes lead to another look.
                    _ = timeout_at(until.into(), states.changed()).await;
                }
                settled => return settled,
            }
        }
    }

    /// A name has other addresses than before.
    pub(super) fn renamed(self: &Arc<Self>, stage: Stage, name: &Name, come: &[&SocketAddr], gone: &[&SocketAddr]) {
        for address in come.iter().map(ToString::to_string) {
            let known = self.roll(stage).find(&address).cloned();
            if let Some(worker) = known {
                worker.set_retired(false);
                continue;
            }
            // Addresses come and go; what a certificate is of is the name.
            match channel::lazy_over(self.tls.as_ref(), &address, Some(&name.host)) {
                Ok(channel) => {
                    let worker = Arc::new(Worker::new(stage, address, channel));
                    self.roll(stage).add(Arc::clone(&worker));
                    self.spawn(watch::watch(Arc::clone(self), worker, self.interval));
                }
                Err(error) => tracing::warn!(stage = stage.name(), address, "cannot be called: {error}"),
            }
        }
        for address in gone.iter().map(ToString::to_string) {
            if let Some(worker) = self.roll(stage).find(&address) {
                worker.set_retired(true);
            }
        }
        self.changed();
    }

    /// A retired worker has nothing left to do. Says whether it could be let go: its name may have come back.
    pub(super) fn forget(&self, worker: &Arc<Worker>) -> bool {
        let mut roll = self.roll(worker.stage);
        if !worker.is_forgotten() {
            return false;
        }
        roll.remove(worker);
        true
    }

    /// A worker came, went or changed.
    pub(super) fn changed(&self) {
        self.stirred.notify_one();
    }

    /// Tells what the fleet has become, after each change or after several that came at once, and when waiting is in vain.
    async fn tell(self: Arc<Self>) {
        let mut absence = Absence::new(self.recovery_wait);
        absence.changed(self.model().err(), Instant::now());
        loop {
            let lost = absence.lost(Instant::now()).cloned();
            let due = absence.due().filter(|_| lost.is_none());
            self.lost.send_if_modified(|told| {
                let news = *told != lost;
                *told = lost;
                news
            });
            tokio::select! {
                () = self.stirred.notified() => {}
                () = at(due) => continue,
            }
            let served = self.look();
            absence.changed(served.model.as_ref().err().cloned(), Instant::now());
            // Whoever comes in by what is told below must not find that waiting is in vain.
            if served.model.is_ok() {
                self.lost.send_if_modified(|told| told.take().is_some());
            }
            self.served.send_replace(Arc::new(served));
        }
    }

    fn look(&self) -> Served {
        let workers = self.workers();
        let of = |stage| workers.iter().filter(move |worker| worker.stage == stage);
        let before = Arc::clone(&self.served.borrow());
        let nobody = |stage| away(of(stage), &self.names, stage, NOT_READY);
        let served = Served::of(&workers, &self.accepted, &before, nobody);
        for stage in Stage::ALL {
            self.metrics.set_workers(stage, of(stage).map(|worker| worker.state()));
            self.gate(stage).resize(served.places(stage));
        }
        served
    }

    fn roll(&self, stage: Stage) -> MutexGuard<'_, Roll> {
        self.rolls[stage as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends at `due`; never without one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// That nobody is there, with what each of the stage's `workers` lacks.
fn away<'a>(
    workers: impl IntoIterator<Item = &'a Arc<Worker>>,
    names: &[(Stage, Name)],
    stage: Stage,
    what: &str,
) -> StageError {
    let problems: Vec<_> = workers.into_iter().map(|worker| worker.describe()).collect();
    let names = names.iter().filter(|(of, _)| *of == stage).map(|(_, name)| &name.host);
    let why = match problems.is_empty() {
        true => names.map(|host| format!("{host} leads to nobody")).collect::<Vec<_>>().join("; "),
        false => problems.join("; "),
    };
    StageError::Away { stage, why: format!("{what}: {why}") }
}
