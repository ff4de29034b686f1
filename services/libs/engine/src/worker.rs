//! The simpler engine for pure models: one call after the other, in order.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::error::{ModelError, RunError, SubmitError, guarded};
use crate::load::LoadCell;
use crate::observer::{Observer, WasteReason};
use crate::owner::{Loaded, Owner};
use crate::queue::{Queue, Refused};
use crate::slots::Used;
use crate::trace::InLine;
use crate::waiting::{Abandon, Entry};

/// Why [`Worker::call`] gave no answer.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CallError {
    /// The call was not taken.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// The call was taken and failed.
    #[error(transparent)]
    Failed(#[from] RunError),
}

/// How a [`Worker`] runs.
pub struct WorkerOptions {
    /// The thread's name: at most 15 bytes show in most tools.
    pub name: String,
    /// Calls that may wait.
    pub queue_limit: usize,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
}

/// A model on its own thread that is called in order, one call at a time.
pub struct Worker<M> {
    owner: Owner<Box<dyn Call<M>>>,
    load: Arc<LoadCell>,
    observer: Arc<dyn Observer>,
}

impl<M: 'static> Worker<M> {
    /// Starts the thread, which makes its model with `load`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start<I: Send + 'static>(
        options: WorkerOptions,
        load: impl FnOnce() -> Result<(M, I), ModelError> + Send + 'static,
    ) -> std::io::Result<(Self, Loaded<I>)> {
        let cell = Arc::new(LoadCell::default());
        let WorkerOptions { name, queue_limit, observer } = options;
        let (published, counts) = (Arc::clone(&cell), Arc::clone(&observer));
        let (owner, loaded) = Owner::start(&name, queue_limit, load, move |mut model, queue| {
            while queue.wait() {
                serve(&mut model, &queue, &published, counts.as_ref());
            }
        })?;
        Ok((Self { owner, load: cell, observer }, loaded))
    }

    /// Runs `work` on the model and waits for the answer, until `deadline` at the latest. Dropping the future takes the
    /// call out of the line.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<A: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(&mut M) -> Result<A, ModelError> + Send + 'static,
    ) -> Result<A, CallError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Typed { work, reply, in_line: InLine::enter() });
        self.owner.queue.push(call, deadline, Instant::now()).map_err(|refused| match refused {
            Refused::Full { limit } => SubmitError::Full { limit, retry_after: self.load.read().next_slot() },
            Refused::Closed => SubmitError::Closed,
        })?;
        self.observer.waiting(self.owner.queue.len());
        let answer = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| RunError::DeadlineExceeded)?
            }
            None => answer.await,
        };
        Ok(answer.map_err(|_| RunError::Stopped)??)
    }

    /// Takes no more calls; resolves when those that it took are answered.
    pub async fn drain(&self) {
        self.owner.drain().await;
    }
}

/// A call whose answer has some type.
trait Call<M>: Send {
    fn is_abandoned(&self) -> bool;

    /// Computes and replies.
    fn run(self: Box<Self>, model: &mut M) -> Outcome;

    /// Replies without computing.
    fn fail(self: Box<Self>, error: RunError);
}

enum Outcome {
    Answered,
    /// Nobody was there to take the answer.
    Unheard,
    Failed,
}

struct Typed<F, A> {
    work: F,
    reply: oneshot::Sender<Result<A, RunError>>,
    in_line: InLine,
}

impl<M, A: Send, F: FnOnce(&mut M) -> Result<A, ModelError> + Send> Call<M> for Typed<F, A> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>, model: &mut M) -> Outcome {
        let Self { work, reply, in_line } = *self;
        // Its span ends before the answer is given.
        let answer = in_line.leave().in_scope(|| {
            let answer = guarded(|| work(model));
            if let Err(error) = &answer {
                tracing::error!(%error, "a call failed");
            }
            answer
        });
        match answer {
            Ok(answer) => reply.send(Ok(answer)).map_or(Outcome::Unheard, |()| Outcome::Answered),
            Err(error) => {
                // A caller who left hears of no failure either.
                let _ = reply.send(Err(error));
                Outcome::Failed
            }
        }
    }

    fn fail(self: Box<Self>, error: RunError) {
        let _ = self.reply.send(Err(error));
    }
}

impl<M> Abandon for Box<dyn Call<M>> {
    fn is_abandoned(&self) -> bool {
        self.as_ref().is_abandoned()
    }
}

/// Answers the first call that somebody still waits for.
fn serve<M>(model: &mut M, queue: &Queue<Box<dyn Call<M>>>, load: &LoadCell, observer: &dyn Observer) {
    let start = Instant::now();
    let (expired, next) = queue.with(|waiting| {
        waiting.drop_abandoned();
        (waiting.take_expired(start), waiting.pop())
    });
    observer.waiting(queue.len());
    for entry in expired {
        entry.item.fail(RunError::DeadlineExceeded);
    }
    let Some(Entry { item: call, since, deadline, .. }) = next else { return };
    observer.started(start.saturating_duration_since(since));
    load.update(|load| load.running = 1);
    observer.running(1, Used::default());
    let outcome = call.run(model);
    let took = start.elapsed();
    load.evaluated(took);
    load.update(|load| load.running = 0);
    observer.running(0, Used::default());
    let is_late = deadline.is_some_and(|deadline| deadline <= start + took);
    match outcome {
        Outcome::Answered => observer.evaluated(1, took),
        Outcome::Failed => observer.wasted(WasteReason::Failed, 1),
        Outcome::Unheard if is_late => observer.wasted(WasteReason::Deadline, 1),
        Outcome::Unheard => observer.wasted(WasteReason::Cancelled, 1),
    }
}
