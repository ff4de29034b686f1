//! One worker as the orchestrator sees it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tonic::transport::Channel;

use super::{Info, Stage};

/// An address, a channel to it, and what is known of who answers there.
pub(crate) struct Worker {
    pub(crate) stage: Stage,
    pub(crate) address: String,
    pub(crate) channel: Channel,
    /// Calls that we have running there.
    outstanding: AtomicUsize,
    condition: Mutex<Condition>,
    recheck: Notify,
}

/// What the last look, or the last failed call, told.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Ready(Arc<Info>),
    Away(String),
}

impl Worker {
    pub(crate) fn new(stage: Stage, address: String, channel: Channel) -> Self {
        let condition = Mutex::new(Condition::Away("not reached yet".into()));
        Self { stage, address, channel, outstanding: AtomicUsize::new(0), condition, recheck: Notify::new() }
    }

    /// What it says of itself; `None` while it is away.
    pub(crate) fn info(&self) -> Option<Arc<Info>> {
        match &*self.condition() {
            Condition::Ready(info) => Some(Arc::clone(info)),
            Condition::Away(_) => None,
        }
    }

    /// Why it is away; `None` while it is ready.
    pub(crate) fn problem(&self) -> Option<String> {
        match &*self.condition() {
            Condition::Ready(_) => None,
            Condition::Away(why) => Some(why.clone()),
        }
    }

    /// Its address and its problem, for a message.
    pub(crate) fn describe(&self) -> String {
        match self.problem() {
            Some(problem) => format!("{} ({problem})", self.address),
            None => self.address.clone(),
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// It takes work. Says whether that is news.
    pub(super) fn set_ready(&self, info: Info) -> bool {
        self.turn(Condition::Ready(Arc::new(info)))
    }

    /// It takes no work. Says whether that is news.
    pub(super) fn set_away(&self, why: String) -> bool {
        self.turn(Condition::Away(why))
    }

    /// A call failed as if nobody were there: no work goes there until the next look, which comes at once.
    pub(super) fn suspect(&self, why: &str) {
        self.set_away(why.to_owned());
        self.recheck.notify_one();
    }

    /// Wakes when the worker is suspected.
    pub(super) async fn suspected(&self) {
        self.recheck.notified().await;
    }

    fn turn(&self, next: Condition) -> bool {
        let mut condition = self.condition();
        if *condition == next {
            return false;
        }
        match (&*condition, &next) {
            (Condition::Ready(_), Condition::Away(why)) => {
                tracing::warn!(stage = self.stage.name(), address = %self.address, "worker is away: {why}");
            }
            (Condition::Away(_), Condition::Ready(_)) => {
                tracing::info!(stage = self.stage.name(), address = %self.address, "worker is ready");
            }
            _ => {}
        }
        *condition = next;
        true
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's hold on a worker: counted as its work until it drops.
pub(crate) struct Lease {
    worker: Arc<Worker>,
}

impl Lease {
    pub(super) fn take(worker: &Arc<Worker>) -> Self {
        worker.outstanding.fetch_add(1, Ordering::Relaxed);
        Self { worker: Arc::clone(worker) }
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.worker.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
