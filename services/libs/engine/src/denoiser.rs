//! The async handle of a denoising model on its own thread.

use std::sync::Arc;
use std::time::Instant;

use crate::batch::{Batch, Turn};
use crate::error::{ModelError, SubmitError};
use crate::events;
use crate::load::{Load, LoadCell};
use crate::model::DenoiseModel;
use crate::observer::Observer;
use crate::owner::{Loaded, Owner};
use crate::queue::Refused;
use crate::request::{DenoiseRequest, Denoising, Submission};
use crate::slots::Budget;

/// How a [`Denoiser`] runs.
pub struct DenoiserOptions {
    /// The thread's name: at most 15 bytes show in most tools.
    pub name: String,
    /// Requests that may wait for a slot.
    pub queue_limit: usize,
    /// Requests that may hold one.
    pub budget: Budget,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
}

/// A denoising model on its own thread, with a bounded queue in front of it.
///
/// Requests join and leave the batch between any two evaluations. Dropping this handle lets the thread finish what it took.
pub struct Denoiser {
    owner: Owner<Submission>,
    load: Arc<LoadCell>,
    observer: Arc<dyn Observer>,
}

impl Denoiser {
    /// Starts the thread, which makes its model with `load`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start<M: DenoiseModel, I: Send + 'static>(
        options: DenoiserOptions,
        load: impl FnOnce() -> Result<(M, I), ModelError> + Send + 'static,
    ) -> std::io::Result<(Self, Loaded<I>)> {
        let cell = Arc::new(LoadCell::default());
        let DenoiserOptions { name, queue_limit, budget, observer } = options;
        let (published, counts) = (Arc::clone(&cell), Arc::clone(&observer));
        let (owner, loaded) = Owner::start(&name, queue_limit, load, move |model, queue| {
            let mut batch = Batch::new(model, Arc::clone(&queue), budget, published, counts, Box::new(Instant::now));
            while batch.turn() == Turn::Evaluated || queue.wait() {}
        })?;
        Ok((Self { owner, load: cell, observer }, loaded))
    }

    /// Puts a request in line. Its events begin when it gets a slot; dropping them cancels it.
    ///
    /// Must be called within a tokio runtime, whose timer ends the events at `deadline` whatever the model does.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was computed.
    pub fn submit(&self, request: DenoiseRequest, deadline: Option<Instant>) -> Result<Denoising, SubmitError> {
        let (sender, events) = events::channel();
        let submission = Submission { request, events: sender };
        self.owner.queue.push(submission, deadline, Instant::now()).map_err(|refused| match refused {
            Refused::Full { limit } => SubmitError::Full { limit, retry_after: self.load.read().next_slot() },
            Refused::Closed => SubmitError::Closed,
        })?;
        self.observer.waiting(self.owner.queue.len());
        Ok(events.until(deadline))
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let (waiting, evaluations) = self.owner.queue.with(|waiting| {
            (waiting.len(), waiting.iter().map(|next| next.request.plan.num_evaluations() as u64).sum::<u64>())
        });
        let mut load = self.load.read();
        load.waiting = waiting;
        load.remaining_evaluations += evaluations;
        load
    }

    /// Takes no more requests; resolves when those that it took are finished.
    pub async fn drain(&self) {
        self.owner.drain().await;
    }
}
