//! The simpler engine for pure models: one call in, one answer out, one at a time, in order.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::error::{ModelError, RunError, SubmitError, guarded};
use crate::load::LoadCell;
use crate::observer::{Observer, WasteReason};
use crate::owner::{Loaded, Owner};
use crate::queue::{Queue, Refused};
use crate::waiting::{Abandon, Entry};

/// Why [`Worker::call`] gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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

/// A model on its own thread that answers calls in order.
pub struct Worker<Q, A> {
    owner: Owner<Call<Q, A>>,
    load: Arc<LoadCell>,
    observer: Arc<dyn Observer>,
}

struct Call<Q, A> {
    question: Q,
    reply: oneshot::Sender<Result<A, RunError>>,
}

impl<Q, A> Abandon for Call<Q, A> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl<Q: Send + 'static, A: Send + 'static> Worker<Q, A> {
    /// Starts the thread, which makes its model with `load` and answers with `answer`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start<M, I: Send + 'static>(
        options: WorkerOptions,
        load: impl FnOnce() -> Result<(M, I), ModelError> + Send + 'static,
        mut answer: impl FnMut(&mut M, Q) -> Result<A, ModelError> + Send + 'static,
    ) -> std::io::Result<(Self, Loaded<I>)> {
        let cell = Arc::new(LoadCell::default());
        let WorkerOptions { name, queue_limit, observer } = options;
        let (published, counts) = (Arc::clone(&cell), Arc::clone(&observer));
        let (owner, loaded) = Owner::start(&name, queue_limit, load, move |mut model, queue| {
            while queue.wait() {
                serve(&queue, &published, counts.as_ref(), |question| answer(&mut model, question));
            }
        })?;
        Ok((Self { owner, load: cell, observer }, loaded))
    }

    /// Asks and waits for the answer, until `deadline` at the latest. Dropping the future takes the call out of the line.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, question: Q, deadline: Option<Instant>) -> Result<A, CallError> {
        let (reply, answer) = oneshot::channel();
        self.owner.queue.push(Call { question, reply }, deadline, Instant::now()).map_err(|refused| match refused {
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

/// Answers the first call that somebody still waits for.
fn serve<Q, A>(
    queue: &Queue<Call<Q, A>>,
    load: &LoadCell,
    observer: &dyn Observer,
    answer: impl FnOnce(Q) -> Result<A, ModelError>,
) {
    let start = Instant::now();
    let (expired, next) = queue.with(|waiting| {
        waiting.drop_abandoned();
        (waiting.take_expired(start), waiting.pop())
    });
    observer.waiting(queue.len());
    for entry in expired {
        let _ = entry.item.reply.send(Err(RunError::DeadlineExceeded));
    }
    let Some(Entry { item: Call { question, reply }, since, deadline }) = next else { return };
    observer.started(start.saturating_duration_since(since));
    observer.running(1);
    let result = guarded(|| answer(question));
    let took = start.elapsed();
    load.evaluated(took);
    observer.running(0);
    match &result {
        Ok(_) => observer.evaluated(1, took),
        Err(error) => {
            tracing::error!(%error, "a call failed");
            observer.wasted(WasteReason::Failed, 1);
        }
    }
    // A caller who left in the meantime is no error, but the work was for nothing.
    if let Err(Ok(_)) = reply.send(result) {
        let is_late = deadline.is_some_and(|deadline| deadline <= start + took);
        observer.wasted(if is_late { WasteReason::Deadline } else { WasteReason::Cancelled }, 1);
    }
}
