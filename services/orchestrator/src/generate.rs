//! The life of a request: queue, text, then each picture's denoising, decoding and file, each told as an event.
//!
//! Everything here lives in the request's one task, and its pictures in a `JoinSet` inside it: when the last listener has gone,
//! the task is aborted, the set with it, and so every call to a stage.

mod denoise;
mod image_task;
mod init;
mod pass;
pub(crate) mod track;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_service_kit::status::{self, code_name};
use darkroom_service_kit::trace::Ending;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, sleep_until};
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use crate::admission::{Place, Slot};
use crate::clients::Permit;
use crate::events::{Log, Times, Warning};
use crate::inputs::Pictures;
use crate::job::{Job, Output};
use crate::model::Model;
use crate::prompts::{Embeddings, Prompts};
use crate::scheduler::Standing;
use crate::stages::calls::{Calls, refusal};
use crate::trace;
use image_task::{ImageTask, ImageTimes};

/// Positions are told at most this often.
const POSITIONS: Duration = Duration::from_secs(1);

/// What all requests share.
pub(crate) struct Generator {
    pub(crate) calls: Arc<Calls>,
    pub(crate) prompts: Prompts,
    /// How long a new request waits for a stage that is away.
    pub(crate) no_worker_wait: Duration,
    /// How long one that was admitted does.
    pub(crate) recovery_wait: Duration,
}

/// One admitted request.
pub(crate) struct Request {
    pub(crate) job: Arc<Job>,
    pub(crate) model: Arc<Model>,
    /// What it begins from.
    pub(crate) pictures: Option<Arc<Pictures>>,
    pub(crate) place: Place,
    /// Counts among what its client may have.
    pub(crate) permit: Permit,
    pub(crate) deadline: Option<Instant>,
    pub(crate) arrived: Instant,
    pub(crate) log: Arc<Log>,
    /// What its client should know already.
    pub(crate) warnings: Vec<Warning>,
}

impl Generator {
    /// Sees the request through to its last event.
    pub(crate) async fn run(self: Arc<Self>, request: Request) {
        let log = Arc::clone(&request.log);
        let request_id = request.job.request_id.clone();
        let ending = Ending::of(&Span::current());
        match self.live(request).await {
            Ok(()) => {
                tracing::info!(%request_id, "completed");
                ending.well("completed");
            }
            Err(status) => {
                ending.badly("failed", code_name(status.code()));
                tracing::warn!(%request_id, code = ?status.code(), "failed: {}", status.message());
                log.fail(status);
            }
        }
    }

    async fn live(&self, mut request: Request) -> Result<(), Status> {
        let slot = self.wait(&mut request).instrument(trace::queue()).await?;
        let queue = request.arrived.elapsed();
        self.pin(&mut request).await?;
        request.log.started(&request.job);

        let text_started = Instant::now();
        let Embeddings { prompt, negative, warnings } = self
            .prompts
            .encode(&request.job, &request.model, request.deadline)
            .instrument(trace::encode_text())
            .await?;
        let text_encoder = text_started.elapsed();
        let encode_started = Instant::now();
        let init = match &request.pictures {
            Some(pictures) => Some(Box::pin(self.init(pictures, &request).instrument(trace::encode_image())).await?),
            None => None,
        };
        let encoded = encode_started.elapsed();

        let task = ImageTask {
            calls: Arc::clone(&self.calls),
            job: Arc::clone(&request.job),
            model: Arc::clone(&request.model),
            deadline: request.deadline,
            log: Arc::clone(&request.log),
            prompt,
            negative,
            init,
        };
        let times = Times {
            queue: queue.as_secs_f64(),
            text_encoder: text_encoder.as_secs_f64(),
            vae: encoded.as_secs_f64(),
            ..Times::default()
        };
        let warnings = request.warnings.drain(..).chain(warnings).collect();
        self.images(request, task, slot, times, warnings).await
    }

    /// Waits for the first slot and tells the position meanwhile.
    async fn wait(&self, request: &mut Request) -> Result<Slot, Status> {
        let mut told: Option<Standing> = None;
        let mut lost = pin!(self.calls.stages.lost());
        let mut standings = request.place.standings();
        let mut next = pin!(sleep(Duration::ZERO));
        let mut look = false;
        let latest = request.place.latest_start();
        let mut chance = pin!(sleep_until(latest.unwrap_or_else(Instant::now).into()));
        loop {
            tokio::select! {
                biased;
                slot = request.place.slot() => {
                    return slot.ok_or_else(|| Status::internal("the queue has gone"));
                }
                // Without a worker nobody's turn comes: that is told, not waited out.
                error = &mut lost => return Err(refusal(&error)),
                () = &mut chance, if latest.is_some() => match request.place.latest_start() {
                    // Step times have become shorter since.
                    Some(later) if later > Instant::now() => chance.as_mut().reset(later.into()),
                    _ => return Err(Status::deadline_exceeded("the request still waits and can no longer meet its deadline")),
                },
                () = &mut next, if !look => {
                    look = true;
                    standings.mark_changed();
                }
                _ = standings.changed(), if look => {
                    let standing = request.place.standing();
                    if let Some(standing) = standing.filter(|standing| Some(standing.position) != told.map(|t| t.position)) {
                        told = Some(standing);
                        request.log.queued(standing);
                        next.as_mut().reset((Instant::now() + POSITIONS).into());
                        look = false;
                    }
                }
            }
        }
    }

    /// From here on the request keeps to the workers' revisions and precisions of now, which others may have taken over while it
    /// waited.
    async fn pin(&self, request: &mut Request) -> Result<(), Status> {
        let model = self.calls.stages.model_within(self.recovery_wait).await.map_err(|error| refusal(&error))?;
        if !request.model.allows_the_same_as(&model) || !model.has_loras(&request.job.loras) {
            let message = "another model is served than when the request came, with other limits; send it again";
            return Err(status::failed_precondition(&model.name, message));
        }
        request.model = model;
        Ok(())
    }

    /// All pictures, as many at once as there are slots.
    async fn images(
        &self,
        mut request: Request,
        task: ImageTask,
        first: Slot,
        mut times: Times,
        warnings: Vec<Warning>,
    ) -> Result<(), Status> {
        let started = Instant::now();
        let (job, task) = (Arc::clone(&request.job), Arc::new(task));
        let mut running = JoinSet::new();
        let mut denoised = started;
        let mut failures: Vec<Status> = Vec::new();
        let (mut begun, mut ended) = (1, 0);
        let make = |index, slot| Arc::clone(&task).run(index, slot).instrument(trace::image(&job, index));
        running.spawn(make(0, first));
        while ended < job.num_images {
            tokio::select! {
                slot = request.place.slot(), if begun < job.num_images => {
                    let slot = slot.ok_or_else(|| Status::internal("the queue has gone"))?;
                    running.spawn(make(begun, slot));
                    begun += 1;
                }
                Some(joined) = running.join_next() => {
                    ended += 1;
                    match outcome(joined)? {
                        (_, Ok(ImageTimes { denoised: at, vae })) => {
                            request.permit.made();
                            denoised = denoised.max(at);
                            times.vae += vae.as_secs_f64();
                        }
                        (index, Err(status)) => {
                            self.failed(&request, index, &status)?;
                            failures.push(status);
                        }
                    }
                }
            }
        }
        let failed = failures.len() as u32;
        if failed == job.num_images
            && let Some(status) = failures.pop()
        {
            return Err(status);
        }
        times.denoiser = (denoised - started).as_secs_f64();
        times.total = request.arrived.elapsed().as_secs_f64();
        if job.output != Output::Latents {
            let besides = times.total - times.queue - times.denoiser;
            request.place.measure_besides(Duration::try_from_secs_f64(besides).unwrap_or_default());
        }
        request.log.completed(&job, failed, times, warnings);
        Ok(())
    }

    /// One picture could not be made. Past the deadline none can, and the request ends.
    fn failed(&self, request: &Request, index: u32, status: &Status) -> Result<(), Status> {
        if request.deadline.is_some() && status.code() == Code::DeadlineExceeded {
            return Err(status::deadline_exceeded());
        }
        self.calls.metrics.images_failed_total.increment(1);
        request.log.image_failed(&request.job, index, status);
        Ok(())
    }
}

/// A picture's task ends with its picture, its status, or a panic that it keeps to itself.
fn outcome(
    joined: Result<(u32, Result<ImageTimes, Status>), JoinError>,
) -> Result<(u32, Result<ImageTimes, Status>), Status> {
    joined.map_err(|error| Status::internal(format!("a picture's task failed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_output<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands wait at once, each with its task, which is two of these.
    #[test]
    fn a_request_that_waits_is_a_small_future() {
        let bytes = size_of_output(Generator::run);
        assert!(bytes <= 4096, "{bytes} bytes: what is large and seldom needed belongs in a box of its own");
    }
}
