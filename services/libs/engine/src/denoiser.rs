//! The async handle of a denoising model on its own thread.

use std::sync::Arc;
use std::time::Instant;

use crate::batch::{Batch, Turn};
use crate::error::{ModelError, SubmitError};
use crate::events::{self, Events};
use crate::load::{Load, LoadCell};
use crate::model::DenoiseModel;
use crate::observer::Observer;
use crate::owner::{Loaded, Owner};
use crate::queue::Refused;
use crate::request::{DenoiseRequest, Submission};
use crate::slots::{Budget, LatentSize};
use crate::step_times::StepTime;
use crate::trace::InLine;

/// How a [`Denoiser`] runs.
pub struct DenoiserOptions {
    /// The thread's name: at most 15 bytes show in most tools.
    pub name: String,
    /// Requests that may wait for a slot.
    pub queue_limit: usize,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
}

/// A model that is loaded, and what was found out about it on the way.
pub struct Ready<M, I> {
    /// The model.
    pub model: M,
    /// What may run at once.
    pub budget: Budget,
    /// Evaluations that were made to find that out.
    pub measured: Vec<StepTime>,
    /// What its owner wants to know of it.
    pub info: I,
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
        load: impl FnOnce() -> Result<Ready<M, I>, ModelError> + Send + 'static,
    ) -> std::io::Result<(Self, Loaded<I>)> {
        let cell = Arc::new(LoadCell::default());
        let DenoiserOptions { name, queue_limit, observer } = options;
        let (published, counts) = (Arc::clone(&cell), Arc::clone(&observer));
        let load = move || load().map(|Ready { model, budget, measured, info }| ((model, budget, measured), info));
        let (owner, loaded) = Owner::start(&name, queue_limit, load, move |(model, budget, measured), queue| {
            measured.iter().for_each(|time| published.timed(time));
            published.set_budget(budget);
            let mut batch = Batch::new(model, Arc::clone(&queue), budget, published, counts, Box::new(Instant::now));
            while batch.turn() == Turn::Evaluated || queue.wait() {}
        })?;
        Ok((Self { owner, load: cell, observer }, loaded))
    }

    /// Puts a request in line. Its events begin when it gets a slot; dropping them cancels it before the next evaluation.
    ///
    /// Must be called within a tokio runtime, whose timer ends the events at `deadline` whatever the model does.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was computed.
    pub fn submit(&self, request: DenoiseRequest, deadline: Option<Instant>) -> Result<Events, SubmitError> {
        let (sender, events) = events::channel();
        let submission = Submission { request, events: sender, in_line: InLine::enter() };
        self.owner.queue.push(submission, deadline, Instant::now()).map_err(|refused| match refused {
            Refused::Full { limit } => SubmitError::Full { limit, retry_after: self.load.read().next_slot() },
            Refused::Closed => SubmitError::Closed,
        })?;
        self.observer.waiting(self.owner.queue.len());
        Ok(events.until(deadline))
    }

    /// Seconds of one evaluation of so many rows of a size, as measured here; 0 before anything was.
    pub fn evaluation_seconds(&self, size: LatentSize, rows: usize) -> f64 {
        self.load.evaluation_seconds(size, rows)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let mut work: Vec<_> =
            self.owner.queue.with(|waiting| waiting.iter().map(|next| next.request.remaining()).collect());
        let mut load = self.load.read();
        load.waiting = work.len();
        load.remaining_evaluations += work.iter().map(|request| request.evaluations as u64).sum::<u64>();
        work.extend(self.load.running());
        load.remaining_seconds = self.load.seconds(&work);
        load.draining = !self.owner.queue.is_open();
        load
    }

    /// Takes no more requests, and tells all that it has where they stand, so that they can go on elsewhere: those that wait
    /// at once, those that run after the evaluation that is under way. The work goes on for whoever keeps listening.
    pub fn begin_drain(&self) {
        self.owner.queue.close_telling(|waiting| waiting.events.draining());
    }

    /// As [`Denoiser::begin_drain`]; resolves when all that was taken is finished.
    pub async fn drain(&self) {
        self.begin_drain();
        self.owner.drain().await;
    }
}
