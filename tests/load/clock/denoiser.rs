//! The denoiser's service over the clock's batch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use darkroom_proto::v1::{self, denoiser_server};
use darkroom_service_kit::{deadline, status};
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::batch::{Batch, Job};
use super::events::Events;
use super::facts::Facts;
use super::request::checked;

/// The delay that a full queue asks for while nothing has run yet.
const UNMEASURED_RETRY: Duration = Duration::from_secs(1);

/// A denoiser whose model is a clock. Clones are the same one.
#[derive(Clone)]
pub struct ClockDenoiser(Arc<Shared>);

struct Shared {
    facts: Facts,
    batch: Mutex<Batch<Events>>,
    news: Notify,
    dead: AtomicBool,
}

impl ClockDenoiser {
    /// One that has nothing to do. Somebody must [`run`](Self::run) it.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        let batch = Batch::new(facts.pace, facts.budget(), facts.queue_limit as usize);
        let batch = Mutex::new(batch);
        Self(Arc::new(Shared { facts: facts.clone(), batch, news: Notify::new(), dead: AtomicBool::new(false) }))
    }

    /// Keeps the time, for as long as it is polled.
    pub async fn run(self) {
        loop {
            let due = self.batch().advance(Instant::now());
            let news = self.0.news.notified();
            match due {
                Some(due) => tokio::select! {
                    () = sleep_until(due.into()) => {}
                    () = news => {}
                },
                None => news.await,
            }
        }
    }

    /// Breaks all that it has, and takes nothing any more, as if its process were gone.
    pub fn kill(&self) {
        self.0.dead.store(true, Ordering::SeqCst);
        let left = self.batch().clear();
        for events in left {
            events.fail(Self::gone());
        }
    }

    /// Whether it has anything to do.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.batch().load().remaining_evaluations > 0
    }

    fn gone() -> Status {
        Status::unavailable("the clock was stopped")
    }

    fn alive(&self) -> Result<(), Status> {
        if self.0.dead.load(Ordering::SeqCst) { Err(Self::gone()) } else { Ok(()) }
    }

    fn batch(&self) -> MutexGuard<'_, Batch<Events>> {
        self.0.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl denoiser_server::Denoiser for ClockDenoiser {
    type DenoiseStream = ReceiverStream<Result<v1::DenoiseEvent, Status>>;

    async fn denoise(&self, call: Request<v1::DenoiseRequest>) -> Result<Response<Self::DenoiseStream>, Status> {
        let (entered, deadline) = (Instant::now(), deadline::of(&call));
        self.alive()?;
        let message = call.into_inner();
        let work = checked(&message)?;
        let (listener, events) = Events::open(work, message.attempt, message.preview_every, self.0.facts.tell_spent)?;
        let evaluations = listener.evaluations();
        let full = |delay: Option<Duration>| {
            status::exhausted("denoiser: its queue is full", delay.unwrap_or(UNMEASURED_RETRY))
        };
        self.batch().push(Job { listener, cost: work.cost, evaluations, entered }, deadline).map_err(full)?;
        self.0.news.notify_one();
        Ok(Response::new(ReceiverStream::new(events)))
    }

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::DenoiserInfo>, Status> {
        self.alive()?;
        Ok(Response::new(self.0.facts.denoiser()))
    }

    async fn get_load(&self, _: Request<v1::GetLoadRequest>) -> Result<Response<v1::GetLoadResponse>, Status> {
        self.alive()?;
        let load = self.batch().load();
        let (picture_seconds, batch_seconds) = self.0.facts.evaluation_seconds();
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Response::new(v1::GetLoadResponse {
            running: count(load.running),
            waiting: count(load.waiting),
            remaining_evaluations: load.remaining_evaluations,
            step_seconds: load.step_seconds,
            remaining_seconds: load.remaining_seconds,
            draining: false,
            picture_seconds,
            batch_seconds,
            running_pixels: load.running_pixels as u64,
        }))
    }
}
