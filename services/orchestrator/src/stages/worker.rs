//! One worker as the orchestrator sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

use super::choice::Candidate;
use super::ledger::{Ledger, Load};
use super::{Info, Stage};
use crate::scheduler::WorkerSpeed;
use crate::selection::Unfit;

/// An address, a channel to it, and what is known of who answers there.
pub(crate) struct Worker {
    pub(crate) stage: Stage,
    pub(crate) address: String,
    pub(crate) channel: Channel,
    /// Calls that we have running there.
    outstanding: AtomicUsize,
    last_chosen: AtomicU64,
    condition: watch::Sender<Condition>,
    recheck: Notify,
    known: Mutex<Known>,
}

/// What a call to the worker can wait for.
#[derive(Debug, Clone, PartialEq)]
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

/// The rest, under one lock.
#[derive(Debug)]
struct Known {
    ledger: Ledger,
    /// When it last answered a look.
    seen: Instant,
    /// Why the chosen model has no place for it.
    unfit: Option<Unfit>,
    /// Its name no longer leads to it.
    retired: bool,
}

impl Worker {
    pub(crate) fn new(stage: Stage, address: String, channel: Channel) -> Self {
        let known = Known { ledger: Ledger::default(), seen: Instant::now(), unfit: None, retired: false };
        Self {
            stage,
            address,
            channel,
            outstanding: AtomicUsize::new(0),
            last_chosen: AtomicU64::new(0),
            condition: watch::Sender::new(Condition::Away(Away::Unreachable, "not reached yet".into())),
            recheck: Notify::new(),
            known: Mutex::new(known),
        }
    }

    /// What it says of itself; `None` while it takes no work.
    pub(crate) fn info(&self) -> Option<Arc<Info>> {
        match self.condition() {
            Condition::Ready(info) if !self.known().retired => Some(info),
            _ => None,
        }
    }

    /// Why it gets no work; `None` while it does.
    pub(crate) fn problem(&self) -> Option<String> {
        let condition = self.condition();
        let known = self.known();
        match condition {
            Condition::Away(_, why) => Some(why),
            Condition::Ready(_) if known.retired => Some("its name no longer leads to it".into()),
            Condition::Ready(_) => known.unfit.as_ref().map(Unfit::to_string),
        }
    }

    /// As the `workers` gauge names it.
    pub(crate) fn state(&self) -> &'static str {
        let condition = self.condition();
        let known = self.known();
        match (condition, &known.unfit) {
            (Condition::Away(Away::Unreachable | Away::Silent | Away::Suspected, _), _) => "unreachable",
            (Condition::Away(Away::Starting, _), _) => "starting",
            (Condition::Away(Away::Draining, _), _) => "draining",
            (Condition::Ready(_), _) if known.retired => "retired",
            (Condition::Ready(_), Some(unfit)) => unfit.state(),
            (Condition::Ready(_), None) => "ready",
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
    pub(crate) async fn lost(&self) {
        let mut condition = self.condition.subscribe();
        let gone = |condition: &Condition| matches!(condition, Condition::Away(Away::Silent, _));
        // The sender lives as long as `self`.
        _ = condition.wait_for(gone).await;
    }

    pub(super) fn candidate(&self, typical: f64, failed_before: bool, now: Instant) -> Candidate {
        Candidate {
            backlog: self.known().ledger.backlog(typical, now),
            outstanding: self.outstanding.load(Ordering::Relaxed),
            last_chosen: self.last_chosen.load(Ordering::Relaxed),
            failed_before,
        }
    }

    /// It answered a look that was begun at `asked`.
    pub(super) fn answered(&self, load: Option<Load>, asked: Instant) {
        let mut known = self.known();
        known.seen = asked;
        if let Some(load) = load {
            known.ledger.reported(load, asked);
        }
    }

    /// It takes work. Says whether that is news.
    pub(super) fn set_ready(&self, info: Info) -> bool {
        self.turn(Condition::Ready(Arc::new(info)))
    }

    /// It takes no work. Says whether that is news.
    pub(super) fn set_away(&self, away: Away, why: String) -> bool {
        self.turn(Condition::Away(away, why))
    }

    /// A look could not reach it. One that drains takes no new connection, and is not gone while it works for us.
    pub(super) fn set_unreachable(&self, why: String) -> bool {
        let leaving = self.is_draining() && self.outstanding.load(Ordering::Relaxed) > 0;
        !leaving && self.set_away(Away::Unreachable, why)
    }

    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.condition(), Condition::Away(Away::Draining, _))
    }

    /// It answers and is not ready: after it was, it drains; before, it starts.
    pub(super) fn set_not_ready(&self) -> bool {
        let was = matches!(self.condition(), Condition::Ready(_) | Condition::Away(Away::Draining, _));
        if was {
            self.set_away(Away::Draining, "it drains".into())
        } else {
            self.set_away(Away::Starting, "it is not ready: it loads its model".into())
        }
    }

    /// It said, in the middle of its work, that it will leave.
    pub(super) fn set_draining(&self) {
        if self.set_away(Away::Draining, "it drains".into()) {
            self.recheck.notify_one();
        }
    }

    /// A call failed as if nobody were there: no work goes there until the next look, which comes at once.
    pub(super) fn suspect(&self, why: &str) {
        let away = matches!(self.condition(), Condition::Away(..));
        if !away && self.set_away(Away::Suspected, why.to_owned()) {
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
        self.known().retired && self.outstanding.load(Ordering::Relaxed) == 0
    }

    fn turn(&self, next: Condition) -> bool {
        self.condition.send_if_modified(|condition| {
            if *condition == next {
                return false;
            }
            match (&*condition, &next) {
                (Condition::Ready(_), Condition::Away(_, why)) => {
                    tracing::warn!(stage = self.stage.name(), address = %self.address, "worker is away: {why}");
                }
                (Condition::Away(..), Condition::Ready(_)) => {
                    tracing::info!(stage = self.stage.name(), address = %self.address, "worker is ready");
                }
                _ => {}
            }
            *condition = next;
            true
        })
    }

    /// A copy: nothing is held while `known` is locked.
    fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's hold on a worker: counted as its work until it drops.
pub(crate) struct Lease {
    worker: Arc<Worker>,
    sent: u64,
}

impl Lease {
    /// `evaluations` of work go to the worker; `turn` is larger than at any earlier choice.
    pub(super) fn take(worker: &Arc<Worker>, evaluations: u64, turn: u64) -> Self {
        worker.outstanding.fetch_add(1, Ordering::Relaxed);
        worker.last_chosen.store(turn, Ordering::Relaxed);
        let sent = worker.known().ledger.sent(evaluations, Instant::now());
        Self { worker: Arc::clone(worker), sent }
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.worker.known().ledger.ended(self.sent);
        self.worker.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
