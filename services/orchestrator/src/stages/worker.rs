//! One worker as the orchestrator sees it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

use super::choice::Candidate;
use super::ledger::{Ahead, Ledger, Load};
use super::{Info, Stage};
use crate::scheduler::WorkerSpeed;
use crate::selection::{Identity, Unfit};

/// An address, a channel to it, and what is known of who answers there.
pub(crate) struct Worker {
    pub(crate) stage: Stage,
    pub(crate) address: String,
    pub(crate) channel: Channel,
    /// Whether it has missed so many looks that its calls wait for nothing. Calls wait for this alone: whatever else
    /// changes wakes none of them.
    silent: watch::Sender<bool>,
    recheck: Notify,
    known: Mutex<Known>,
}

/// Whether it takes work.
#[derive(Debug, PartialEq)]
enum Condition {
    Ready(Arc<Info>),
    Away(Away, String),
}

/// Why a worker takes no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    /// Nobody answers there.
    Unreachable,
    /// It is there and has missed several looks: it is frozen, or cut off.
    Silent,
    /// A call failed as if nobody were there; the next look tells.
    Suspected,
    /// It answers, and is not ready yet.
    Starting,
    /// It finishes what it has and leaves.
    Draining,
}

/// All of it, under one lock: a choice among hundreds of workers takes it once for each.
#[derive(Debug)]
struct Known {
    condition: Condition,
    ledger: Ledger,
    /// Calls that we have running there.
    outstanding: usize,
    last_chosen: u64,
    /// When it last answered a look; before the first answer, since when it is looked for.
    seen: Instant,
    answered: bool,
    /// What it said of itself when it last took work.
    said: Option<Arc<Info>>,
    /// Why the chosen model has no place for it.
    unfit: Option<Unfit>,
    /// Its name no longer leads to it.
    retired: bool,
}

/// A worker as its operator sees it: one moment of all that is known.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) state: &'static str,
    /// Why it gets no work.
    pub(crate) problem: Option<String>,
    /// What it said of itself when it last took work.
    pub(crate) said: Option<Arc<Info>>,
    /// Since it last answered a look.
    pub(crate) seen: Option<Duration>,
    /// Ours, running there.
    pub(crate) calls: usize,
    /// Of a denoiser, as it last said.
    pub(crate) load: Option<Load>,
}

impl Known {
    fn info(&self) -> Option<&Arc<Info>> {
        match &self.condition {
            Condition::Ready(info) if !self.retired => Some(info),
            _ => None,
        }
    }

    /// What it says of itself, if it takes work of `pin`. One that the chosen model has no place for finishes what began with it; one
    /// that runs another model than its list is for has none to finish.
    fn serving(&self, pin: &Identity) -> Option<&Arc<Info>> {
        let stranger = matches!(self.unfit, Some(Unfit::Model { .. }));
        self.info().filter(|info| !stranger && pin.is_of(info))
    }

    fn is_draining(&self) -> bool {
        matches!(self.condition, Condition::Away(Away::Draining, _))
    }

    fn problem(&self) -> Option<String> {
        match &self.condition {
            Condition::Away(_, why) => Some(why.clone()),
            Condition::Ready(_) if self.retired => Some("its name no longer leads to it".into()),
            Condition::Ready(_) => self.unfit.as_ref().map(Unfit::to_string),
        }
    }

    fn state(&self) -> &'static str {
        match (&self.condition, &self.unfit) {
            (Condition::Away(Away::Unreachable | Away::Silent | Away::Suspected, _), _) => "unreachable",
            (Condition::Away(Away::Starting, _), _) => "starting",
            (Condition::Away(Away::Draining, _), _) => "draining",
            (Condition::Ready(_), _) if self.retired => "retired",
            (Condition::Ready(_), Some(unfit)) => unfit.state(),
            (Condition::Ready(_), None) => "ready",
        }
    }
}

impl Worker {
    pub(crate) fn new(stage: Stage, address: String, channel: Channel) -> Self {
        let known = Known {
            condition: Condition::Away(Away::Unreachable, "not reached yet".into()),
            ledger: Ledger::default(),
            outstanding: 0,
            last_chosen: 0,
            seen: Instant::now(),
            answered: false,
            said: None,
            unfit: None,
            retired: false,
        };
        let silent = watch::Sender::new(false);
        Self { stage, address, channel, silent, recheck: Notify::new(), known: Mutex::new(known) }
    }

    /// What it says of itself; `None` while it takes no work.
    pub(crate) fn info(&self) -> Option<Arc<Info>> {
        self.known().info().cloned()
    }

    /// Whether it takes work of `pin`.
    pub(super) fn serves(&self, pin: &Identity) -> bool {
        self.known().serving(pin).is_some()
    }

    /// Why it gets no work; `None` while it does.
    pub(crate) fn problem(&self) -> Option<String> {
        self.known().problem()
    }

    /// As the `workers` gauge names it.
    pub(crate) fn state(&self) -> &'static str {
        self.known().state()
    }

    /// All that its operator wants to know.
    pub(crate) fn sight(&self, now: Instant) -> Sight {
        let known = self.known();
        Sight {
            state: known.state(),
            problem: known.problem(),
            said: known.said.clone(),
            seen: known.answered.then(|| now.saturating_duration_since(known.seen)),
            calls: known.outstanding,
            load: known.ledger.load(),
        }
    }

    /// Its address and its problem, for a message.
    pub(crate) fn describe(&self) -> String {
        match self.problem() {
            Some(problem) => format!("{} ({problem})", self.address),
            None => self.address.clone(),
        }
    }

    /// What an evaluation takes there; `None` while it has not measured it.
    pub(crate) fn step_seconds(&self) -> Option<f64> {
        self.known().ledger.step_seconds()
    }

    /// How fast it denoises, by its own word, where one guided picture of the default size has `picture_pixels` latent pixels.
    pub(crate) fn speed(&self, picture_pixels: u64) -> Option<WorkerSpeed> {
        let info = self.info()?;
        let Info::Denoiser(info) = &*info else { return None };
        let (picture_seconds, batch_seconds) = self.known().ledger.evaluation_seconds();
        // One of an earlier version does not tell.
        let told = Some(info.batch_pixels).filter(|pixels| *pixels > 0);
        let batch_pixels = told.unwrap_or(picture_pixels.saturating_mul(info.max_batch.max(1).into()));
        Some(WorkerSpeed { batch_pixels, picture: (picture_pixels, picture_seconds), batch_seconds })
    }

    /// How long it has not answered a look, and how long its reports have said the same.
    pub(crate) fn silence(&self, now: Instant) -> (Duration, Option<Duration>) {
        let known = self.known();
        (now.saturating_duration_since(known.seen), known.ledger.unchanged_for(now))
    }

    /// Ends when looks have gone unanswered, however well the connection seems to be. A connection that breaks ends its calls by
    /// itself, and that no new one can be made says nothing of the old: a worker that drains takes none.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut silent = self.silent.subscribe();
        async move {
            if silent.wait_for(|silent| *silent).await.is_err() {
                // The worker has been forgotten, which nobody who works there lets happen.
                std::future::pending().await
            }
        }
    }

    /// The work before it and itself as a candidate for work of `pin`; `None` while it takes none of it.
    pub(super) fn candidate(
        &self,
        pin: &Identity,
        failed: &BTreeSet<String>,
        now: Instant,
        typical: impl FnOnce() -> f64,
    ) -> Option<Candidate> {
        let (ahead, outstanding, last_chosen, places): (Ahead, _, _, _) = {
            let known = self.known();
            let info = known.serving(pin)?;
            (known.ledger.ahead(now), known.outstanding, known.last_chosen, info.places())
        };
        // A denoiser's places are the scheduler's to count.
        let full = self.stage != Stage::Denoiser && outstanding >= places;
        // The others' time is theirs to say: nothing is locked here.
        let backlog = ahead.seconds(typical);
        Some(Candidate { backlog, outstanding, last_chosen, failed_before: failed.contains(&self.address), full })
    }

    /// It answered a look that was begun at `asked`.
    pub(super) fn answered(&self, load: Option<Load>, asked: Instant) {
        let mut known = self.known();
        known.seen = asked;
        known.answered = true;
        if let Some(load) = load {
            known.ledger.reported(load, asked);
        }
    }

    /// It takes work. Says whether that is news.
    pub(super) fn set_ready(&self, info: Info) -> bool {
        let info = Arc::new(info);
        self.turn(|known| match &known.condition {
            Condition::Ready(said) if *said == info => None,
            _ => Some(Condition::Ready(info)),
        })
    }

    /// It takes no work. Says whether that is news.
    pub(super) fn set_away(&self, away: Away, why: String) -> bool {
        self.turn(|_| Some(Condition::Away(away, why)))
    }

    /// A look could not reach it. One that drains takes no new connection, and is not gone while it works for us.
    pub(super) fn set_unreachable(&self, why: String) -> bool {
        self.turn(|known| {
            let leaving = known.is_draining() && known.outstanding > 0;
            (!leaving).then_some(Condition::Away(Away::Unreachable, why))
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.known().is_draining()
    }

    /// It answers and is not ready: after it was, it drains; before, it starts.
    pub(super) fn set_not_ready(&self) -> bool {
        self.turn(|known| {
            let was = matches!(known.condition, Condition::Ready(_)) || known.is_draining();
            Some(match was {
                true => Condition::Away(Away::Draining, "it drains".into()),
                false => Condition::Away(Away::Starting, "it is not ready: it loads its model".into()),
            })
        })
    }

    /// It said, in the middle of its work, that it will leave.
    pub(super) fn set_draining(&self) {
        if self.set_away(Away::Draining, "it drains".into()) {
            self.recheck.notify_one();
        }
    }

    /// A call failed as if nobody were there: no work goes there until the next look, which comes at once.
    pub(super) fn suspect(&self, why: &str) {
        let suspected = self.turn(|known| match known.condition {
            Condition::Ready(_) => Some(Condition::Away(Away::Suspected, why.to_owned())),
            Condition::Away(..) => None,
        });
        if suspected {
            self.recheck.notify_one();
        }
    }

    /// Wakes when the worker is to be looked at at once.
    pub(super) async fn suspected(&self) {
        self.recheck.notified().await;
    }

    pub(super) fn set_unfit(&self, unfit: Option<Unfit>) {
        let mut known = self.known();
        if let Some(news) = unfit.as_ref().filter(|_| known.unfit != unfit) {
            tracing::warn!(stage = self.stage.name(), address = %self.address, "worker is not used: {news}");
        }
        known.unfit = unfit;
    }

    /// Its name leads to it, or no longer does: then it gets no new work, and what runs there goes on.
    pub(super) fn set_retired(&self, retired: bool) {
        self.known().retired = retired;
        self.recheck.notify_one();
    }

    /// Retired, and nothing of ours runs there any more.
    pub(super) fn is_forgotten(&self) -> bool {
        let known = self.known();
        known.retired && known.outstanding == 0
    }

    /// Goes over to what `next` says, if anything. Says whether that is news.
    fn turn(&self, next: impl FnOnce(&Known) -> Option<Condition>) -> bool {
        let mut known = self.known();
        let Some(next) = next(&known).filter(|next| *next != known.condition) else { return false };
        match (&known.condition, &next) {
            (Condition::Ready(_), Condition::Away(_, why)) => {
                tracing::warn!(stage = self.stage.name(), address = %self.address, "worker is away: {why}");
            }
            (Condition::Away(..), Condition::Ready(_)) => {
                tracing::info!(stage = self.stage.name(), address = %self.address, "worker is ready");
            }
            _ => {}
        }
        let silent = matches!(next, Condition::Away(Away::Silent, _));
        if let Condition::Ready(info) = &next {
            known.said = Some(Arc::clone(info));
        }
        known.condition = next;
        // Told before the lock is let go, so that what is told last is what is so.
        self.silent.send_if_modified(|told| std::mem::replace(told, silent) != silent);
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's hold on a worker: counted as its work until it drops.
pub(crate) struct Lease {
    worker: Arc<Worker>,
    sent: u64,
    evaluations: u64,
}

impl Lease {
    /// `evaluations` of work go to the worker; `turn` is larger than at any earlier choice.
    pub(super) fn take(worker: &Arc<Worker>, evaluations: u64, turn: u64, now: Instant) -> Self {
        let mut known = worker.known();
        known.outstanding += 1;
        known.last_chosen = turn;
        let sent = known.ledger.sent(evaluations, now);
        drop(known);
        Self { worker: Arc::clone(worker), sent, evaluations }
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The work has `done` of its steps behind it.
    pub(super) fn progress(&self, done: u32, of: u32) {
        let left = u128::from(self.evaluations) * u128::from(of.saturating_sub(done)) / u128::from(of.max(1));
        self.worker.known().ledger.left(self.sent, left as u64);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut known = self.worker.known();
        known.ledger.ended(self.sent);
        known.outstanding -= 1;
    }
}
