//! The one thread that owns a model: made there, used there, dropped there.

use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{ModelError, guarded};
use crate::queue::Queue;
use crate::waiting::Abandon;

/// Resolves when the model is loaded: with what there is to know about it, or with why it is not.
pub type Loaded<I> = oneshot::Receiver<Result<I, ModelError>>;

/// The line to a model's thread, as its handles hold it.
pub(crate) struct Owner<T: Abandon> {
    pub(crate) queue: Arc<Queue<T>>,
    ended: CancellationToken,
}

impl<T: Abandon + Send + 'static> Owner<T> {
    /// Starts a thread that loads the model with `load` and then gives it to `work` until the line is closed and empty.
    ///
    /// # Errors
    /// When the operating system gives no thread. A failed load is told by [`Loaded`]; the line is closed then.
    pub(crate) fn start<M, I: Send + 'static>(
        name: &str,
        queue_limit: usize,
        load: impl FnOnce() -> Result<(M, I), ModelError> + Send + 'static,
        work: impl FnOnce(M, Arc<Queue<T>>) + Send + 'static,
    ) -> std::io::Result<(Self, Loaded<I>)> {
        let queue = Arc::new(Queue::new(queue_limit));
        let ended = CancellationToken::new();
        let (told, loaded) = oneshot::channel();
        let guard = EndGuard { queue: Arc::clone(&queue), ended: ended.clone() };
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Whatever ends this thread, nobody waits for it afterwards.
            let guard = guard;
            let model = match guarded(|| Ok::<_, ModelError>(load())) {
                Ok(Ok((model, info))) => {
                    // Nobody to tell: the service was dropped while it loaded, and its line is closed.
                    let _ = told.send(Ok(info));
                    model
                }
                Ok(Err(error)) => return drop(told.send(Err(error))),
                Err(panicked) => return drop(told.send(Err(Box::new(panicked)))),
            };
            work(model, Arc::clone(&guard.queue));
        })?;
        Ok((Self { queue, ended }, loaded))
    }
}

impl<T: Abandon> Owner<T> {
    /// Takes no more work; resolves when the work that was taken is done and the model is dropped.
    pub(crate) async fn drain(&self) {
        self.queue.close();
        self.ended.cancelled().await;
    }
}

impl<T: Abandon> Drop for Owner<T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct EndGuard<T: Abandon> {
    queue: Arc<Queue<T>>,
    ended: CancellationToken,
}

impl<T: Abandon> Drop for EndGuard<T> {
    fn drop(&mut self) {
        self.queue.abort();
        self.ended.cancel();
    }
}
