//! The requests that run, by name, and who listens to each: one that comes again joins, and the work ends with the last listener.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use darkroom_proto::v1::GenerateRequest;
use darkroom_service_kit::{Peer, status};
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};
use tokio_stream::Stream;
use tonic::Status;

use crate::events::{Log, Reader};
use crate::finished::Finished;
use crate::journal::Item;
use crate::metrics::OrchestratorMetrics;
use crate::results::Shelf;
use crate::trace;

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    /// A named request goes on for so long after its last listener's connection broke.
    pub(crate) rejoin_grace: Duration,
    /// The result of a named request that is done.
    pub(crate) finished: Duration,
    /// All such results together.
    pub(crate) finished_bytes: usize,
}

/// All requests that run. Clones are the same.
#[derive(Clone)]
pub(crate) struct Running {
    inner: Arc<Mutex<Inner>>,
    rejoin_grace: Duration,
    metrics: Arc<OrchestratorMetrics>,
}

struct Inner {
    runs: HashMap<String, Run>,
    finished: Finished<(GenerateRequest, Arc<Log>)>,
    next_serial: u64,
}

struct Run {
    /// Tells runs of one name apart.
    serial: u64,
    /// What was asked for, without the name.
    content: GenerateRequest,
    log: Arc<Log>,
    listeners: usize,
    /// Counts joins: a grace that began before the latest is over.
    joins: u64,
    /// `None` until the work has begun.
    task: Option<AbortHandle>,
    /// The client chose the name, and so can come back under it.
    named: bool,
}

/// What a request is to those that run.
pub(crate) enum Entry {
    /// The first of its name: its stream, and its place among those that run.
    New(Name, Listener),
    /// The same as one that runs, or is just done.
    Joined(Listener),
}

/// Listeners of one request: retries that were not told that the call before them is dead.
const MOST_LISTENERS: usize = 64;

/// The name cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Taken {
    #[error("request_id: {0:?} runs with other content; choose another, or send the same fields again to join it")]
    Other(String),
    #[error("request_id: {0:?} has {MOST_LISTENERS} listeners already, and no more are allowed")]
    Crowded(String),
}

impl From<Taken> for Status {
    fn from(taken: Taken) -> Self {
        let message = taken.to_string();
        match taken {
            Taken::Other(_) => Self::already_exists(message),
            Taken::Crowded(_) => status::exhausted(message, Duration::from_secs(1)),
        }
    }
}

impl Running {
    pub(crate) fn new(keeping: Keeping, metrics: Arc<OrchestratorMetrics>) -> Self {
        let finished = Finished::new(keeping.finished, keeping.finished_bytes);
        let inner = Inner { runs: HashMap::new(), finished, next_serial: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), rejoin_grace: keeping.rejoin_grace, metrics }
    }

    /// Joins the request that runs, or is just done, under `name`. `content` is the request as it came, before anything was
    /// drawn at random.
    ///
    /// # Errors
    /// [`Taken`], when the name stands for something else.
    pub(crate) fn join(&self, name: &str, content: &GenerateRequest, peer: &Peer) -> Result<Option<Listener>, Taken> {
        self.join_in(&mut self.lock(), name, &unnamed(content), peer)
    }

    /// Joins who has `name`, or takes it, with a `shelf` for its pictures.
    ///
    /// # Errors
    /// As [`Running::join`].
    pub(crate) fn enter(
        &self,
        name: &str,
        content: &GenerateRequest,
        peer: &Peer,
        shelf: Shelf,
    ) -> Result<Entry, Taken> {
        let named = !content.request_id.is_empty();
        let content = unnamed(content);
        let mut inner = self.lock();
        if let Some(listener) = self.join_in(&mut inner, name, &content, peer)? {
            return Ok(Entry::Joined(listener));
        }
        inner.finished.forget(name);
        let serial = inner.next_serial;
        inner.next_serial += 1;
        let log = Arc::new(Log::new(name, shelf));
        let reader = Reader::first(&log);
        let run = Run { serial, content, log: Arc::clone(&log), listeners: 1, joins: 0, task: None, named };
        inner.runs.insert(name.to_owned(), run);
        drop(inner);
        let taken = Name { running: self.clone(), name: name.to_owned(), serial, log };
        Ok(Entry::New(taken, self.listener(name, reader, Some(serial), peer)))
    }

    fn join_in(
        &self,
        inner: &mut Inner,
        name: &str,
        content: &GenerateRequest,
        peer: &Peer,
    ) -> Result<Option<Listener>, Taken> {
        if let Some(run) = inner.runs.get_mut(name) {
            if run.content != *content {
                return Err(Taken::Other(name.to_owned()));
            }
            if run.listeners >= MOST_LISTENERS {
                return Err(Taken::Crowded(name.to_owned()));
            }
            run.listeners += 1;
            run.joins += 1;
            self.metrics.joined("running");
            trace::joined(name, "running", run.log.span());
            return Ok(Some(self.listener(name, Reader::late(&run.log), Some(run.serial), peer)));
        }
        // A name that is free again may well be used for something else.
        let Some((_, log)) = inner.finished.find(name, Instant::now()).filter(|(done, _)| done == content) else {
            return Ok(None);
        };
        self.metrics.joined("finished");
        trace::joined(name, "finished", log.span());
        Ok(Some(self.listener(name, Reader::late(log), None, peer)))
    }

    fn listener(&self, name: &str, reader: Reader, serial: Option<u64>, peer: &Peer) -> Listener {
        let hold =
            serial.map(|serial| Hold { running: self.clone(), name: name.to_owned(), serial, peer: peer.clone() });
        Listener { reader, _hold: hold }
    }

    /// A listener has gone. Without any other the work ends: at once, or after a grace when the listener was cut off.
    fn leave(&self, name: &str, serial: u64, cut_off: bool) {
        let mut inner = self.lock();
        let Some(run) = inner.runs.get_mut(name).filter(|run| run.serial == serial) else { return };
        run.listeners -= 1;
        // What is done is kept by its own task, which ends with this; nothing is left to be stopped.
        if run.listeners > 0 || run.log.is_whole() {
            return;
        }
        if !(cut_off && run.named) || self.rejoin_grace.is_zero() {
            inner.end(name, serial);
            return;
        }
        let (running, name, joins) = (self.clone(), name.to_owned(), run.joins);
        drop(inner);
        tracing::info!(request_id = name, "its client was cut off, and may come back");
        tokio::spawn(async move {
            sleep(running.rejoin_grace).await;
            let mut inner = running.lock();
            let alone = |run: &Run| run.serial == serial && run.listeners == 0 && run.joins == joins;
            if inner.runs.get(&name).is_some_and(alone) {
                inner.end(&name, serial);
            }
        });
    }

    /// The work is over, well or not.
    fn over(&self, name: &str, serial: u64) {
        let mut inner = self.lock();
        if inner.runs.get(name).is_none_or(|run| run.serial != serial) {
            return;
        }
        let Some(run) = inner.runs.remove(name) else { return };
        if !run.named || !run.log.is_whole() {
            return;
        }
        let bytes = run.log.bytes() + run.content.prompt.len() + run.content.negative_prompt.len();
        let until = inner.finished.keep(name, (run.content, run.log), bytes, Instant::now());
        self.metrics.finished_bytes.set(inner.finished.bytes() as f64);
        drop(inner);
        if let Some(until) = until {
            let running = self.clone();
            tokio::spawn(async move {
                sleep_until(until.into()).await;
                let mut inner = running.lock();
                inner.finished.expire(Instant::now());
                running.metrics.finished_bytes.set(inner.finished.bytes() as f64);
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Nobody wants the work any more.
    fn end(&mut self, name: &str, serial: u64) {
        if self.runs.get(name).is_some_and(|run| run.serial == serial)
            && let Some(run) = self.runs.remove(name)
            && let Some(task) = run.task
        {
            tracing::info!(request_id = name, "nobody listens any more");
            task.abort();
        }
    }
}

/// What is asked for, whoever asks.
fn unnamed(content: &GenerateRequest) -> GenerateRequest {
    GenerateRequest { request_id: String::new(), ..content.clone() }
}

/// A request's place among those that run, until it drops.
pub(crate) struct Name {
    running: Running,
    name: String,
    serial: u64,
    log: Arc<Log>,
}

impl Name {
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Starts the request's work.
    pub(crate) fn begin(self, work: impl Future<Output = ()> + Send + 'static) {
        let (running, name, serial) = (self.running.clone(), self.name.clone(), self.serial);
        // The lock is held until the task is known, so that a listener who leaves at once ends it.
        let mut inner = running.lock();
        let Some(run) = inner.runs.get_mut(&name).filter(|run| run.serial == serial) else {
            // `self` takes the lock when it drops.
            drop(inner);
            return;
        };
        let task = tokio::spawn(async move {
            let _taken = self;
            work.await;
        });
        run.task = Some(task.abort_handle());
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Whoever joined in the meantime must not wait for ever.
        self.log.fail(Status::internal("the request's task ended before the request did"));
        self.running.over(&self.name, self.serial);
    }
}

/// A client's stream of a request's events. Dropping the last one ends the work.
pub(crate) struct Listener {
    reader: Reader,
    /// `None` for a request that is done.
    _hold: Option<Hold>,
}

impl Stream for Listener {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        Pin::new(&mut self.reader).poll_next(cx)
    }
}

/// Counts a listener.
struct Hold {
    running: Running,
    name: String,
    serial: u64,
    peer: Peer,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.running.leave(&self.name, self.serial, self.peer.is_gone());
    }
}
