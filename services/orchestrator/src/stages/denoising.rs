//! One try at one picture: a denoise stream, from the worker's first word to the final latents, or to whatever ends it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::{Checkpoint, DenoiseEvent, DenoiseRequest, Dtype, Tensor};
use darkroom_service_kit::trace::pass_on;
use tokio::time::{Sleep, sleep_until, timeout};
use tonic::{Request, Streaming};

use super::calls::{Calls, checked, limit};
use super::fault::{Failure, Fault, broken, hung, too_late, translate};
use super::heartbeat::Moment;
use super::silence::{Patience, Signs};
use super::{Lease, Stage, Stages};
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::picture::Rgb;

/// A checkpoint holds the latents and the sampler's history: no sampler has more tensors.
const MOST_STATES: usize = 16;
/// Of a state's name.
const MOST_LETTERS: usize = 64;

/// Nothing but the end follows the latents, and it follows at once.
const STREAM_END: Duration = Duration::from_millis(100);

/// What a denoiser tells.
pub(crate) enum Progress {
    /// A step is done; with what the picture looks like so far, when asked for.
    Step { step: u32, of: u32, preview: Option<Rgb> },
    /// The work can go on from here.
    Checkpoint(Checkpoint),
    /// The worker will leave.
    Draining,
    /// The work is done.
    Finished { latents: Tensor, seconds: f64 },
}

/// Dropping it stops the worker before its next evaluation.
pub(crate) struct Denoising {
    stream: Streaming<DenoiseEvent>,
    lease: Lease,
    attempt: u32,
    resumed: bool,
    /// Latent height and width.
    size: [usize; 2],
    channels: usize,
    patience: Patience,
    /// Seconds that an evaluation of such a picture is expected to take, as other pictures have it.
    expected: Option<f64>,
    /// When the worker last said something, or was asked.
    heard: Moment,
    begun: bool,
    deadline: Option<Instant>,
    /// When to look for signs of life. It is not put off with each word of the worker's: what it finds then decides.
    alarm: Pin<Box<Sleep>>,
    /// Ends when the worker answers nobody any more.
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
    stages: Arc<Stages>,
    metrics: Arc<OrchestratorMetrics>,
}

impl Calls {
    /// Starts to denoise one picture on the leased worker; the stream holds the lease until it drops.
    pub(crate) async fn denoise(
        &self,
        lease: Lease,
        request: DenoiseRequest,
        model: &Model,
        expected: Option<f64>,
        deadline: Option<Instant>,
    ) -> Result<Denoising, Failure> {
        let size = [request.latent_height as usize, request.latent_width as usize];
        let (attempt, resumed) = (request.attempt, request.resume_from.is_some());
        self.metrics.sent(Stage::Denoiser, sent_bytes(&request));
        let mut client = DenoiserClient::new(lease.worker().channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        let mut request = Request::new(request);
        pass_on(request.metadata_mut());
        // Silence ends a stream that hangs; the caller's deadline is told to the worker, which ends the work.
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let heard = self.stages.heartbeat().moment(Instant::now());
        // The head comes before any work: there is nothing to wait for but a worker that is there.
        let limit = limit(self.patience.limit(lease.worker().step_seconds().or(Some(0.0))), deadline);
        let answer = tokio::select! {
            answer = timeout(limit, client.denoise(request)) => answer,
            () = lease.worker().lost() => return Err(hung(lease.worker(), "does not answer any more")),
        };
        let stream = match answer {
            Ok(answer) => answer.map_err(|status| translate(lease.worker(), status, deadline, resumed))?.into_inner(),
            Err(_) => return Err(too_late(lease.worker(), limit, deadline)),
        };
        let lost = Box::pin(lease.worker().lost());
        let mut denoising = Denoising {
            stream,
            lease,
            attempt,
            resumed,
            size,
            channels: model.latent_channels,
            patience: self.patience,
            expected,
            heard,
            begun: false,
            deadline,
            alarm: Box::pin(sleep_until((Instant::now() + self.patience.least).into())),
            lost,
            stages: Arc::clone(&self.stages),
            metrics: Arc::clone(&self.metrics),
        };
        denoising.look()?;
        Ok(denoising)
    }
}

impl Denoising {
    /// The next event. Nothing comes after `Finished`.
    ///
    /// # Errors
    /// The worker's failure, or its silence.
    pub(crate) async fn next(&mut self) -> Result<Progress, Failure> {
        loop {
            let event = self.event().await?;
            // Fenced: the words of a try that was given up count for nothing, whoever passes them on.
            if event.attempt != self.attempt {
                continue;
            }
            self.heard = self.stages.heartbeat().moment(Instant::now());
            match event.event {
                // Accepted, or an event of a later version.
                Some(Event::Accepted(_)) | None => {}
                Some(Event::Step(step)) => {
                    self.begun = true;
                    self.lease.progress(step.step, step.of);
                    let preview = step.preview.map(|tensor| self.preview(tensor)).transpose()?;
                    return Ok(Progress::Step { step: step.step, of: step.of, preview });
                }
                Some(Event::Checkpoint(checkpoint)) => {
                    self.begun = true;
                    self.check_states(&checkpoint)?;
                    return Ok(Progress::Checkpoint(checkpoint));
                }
                Some(Event::Draining(_)) => {
                    self.lease.worker().set_draining();
                    return Ok(Progress::Draining);
                }
                Some(Event::Finished(finished)) => {
                    self.check(finished.latents.as_ref(), "latents", Dtype::F32, &self.shape())?;
                    let latents = finished.latents.unwrap_or_default();
                    // Streams that are dropped before they end are reset, and a connection stands only so many of those.
                    _ = timeout(STREAM_END, self.stream.message()).await;
                    return Ok(Progress::Finished { latents, seconds: finished.seconds });
                }
            }
        }
    }

    /// Whether the worker has told anything of the work itself.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(crate) fn address(&self) -> &str {
        &self.lease.worker().address
    }

    async fn event(&mut self) -> Result<DenoiseEvent, Failure> {
        loop {
            tokio::select! {
                biased;
                message = self.stream.message() => {
                    let worker = self.lease.worker();
                    return match message {
                        Ok(Some(event)) => Ok(event),
                        Ok(None) => Err(Failure { fault: Fault::Died, ..broken(worker, "the stream ended without latents") }),
                        Err(status) => Err(translate(worker, status, self.deadline, self.resumed)),
                    };
                }
                () = &mut self.lost => return Err(hung(self.lease.worker(), "does not answer any more")),
                () = &mut self.alarm => self.look()?,
            }
        }
    }

    /// Is the worker still at it? Sets the alarm for the next look.
    fn look(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let worker = self.lease.worker();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(too_late(worker, Duration::ZERO, self.deadline));
        }
        let (unseen, unchanged) = worker.silence(now);
        let silent = self.stages.heartbeat().since(self.heard, now);
        let signs = Signs { silent, unseen, unchanged, begun: self.begun, draining: worker.is_draining() };
        let seconds = worker.step_seconds().into_iter().chain(self.expected).reduce(f64::max);
        let limit = self.patience.limit(seconds);
        if self.patience.is_hung(limit, &signs) {
            return Err(hung(worker, &format!("has said nothing for {:.1} s", silent.as_secs_f64())));
        }
        let next = now + self.patience.look_in(limit, &signs);
        let next = self.deadline.map_or(next, |deadline| next.min(deadline));
        self.alarm.as_mut().reset(next.into());
        Ok(())
    }

    fn shape(&self) -> [usize; 3] {
        [self.channels, self.size[0], self.size[1]]
    }

    fn preview(&self, tensor: Tensor) -> Result<Rgb, Failure> {
        let [height, width] = self.size;
        self.check(Some(&tensor), "preview", Dtype::U8, &[height, width, 3])?;
        Ok(Rgb { width: width as u32, height: height as u32, data: tensor.data })
    }

    /// It is kept and sent on: neither more nor larger than a sampler's states are.
    fn check_states(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let count = checkpoint.states.len();
        if count == 0 || count > MOST_STATES {
            let message = format!("checkpoint: {count} states, 1 to {MOST_STATES} are allowed");
            return Err(broken(self.lease.worker(), &message));
        }
        for state in &checkpoint.states {
            if state.name.len() > MOST_LETTERS {
                let message =
                    format!("checkpoint: a state's name has {} letters, {MOST_LETTERS} are allowed", state.name.len());
                return Err(broken(self.lease.worker(), &message));
            }
            self.check(state.tensor.as_ref(), "checkpoint", Dtype::F32, &self.shape())?;
        }
        Ok(())
    }

    fn check(
        &self,
        tensor: Option<&Tensor>,
        field: &'static str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<(), Failure> {
        let bytes = checked(self.lease.worker(), tensor, field, dtype, shape)?;
        self.metrics.received(Stage::Denoiser, bytes);
        Ok(())
    }
}

/// Of the tensors.
fn sent_bytes(request: &DenoiseRequest) -> usize {
    let embeds = [request.prompt_embeds.as_ref(), request.negative_prompt_embeds.as_ref()];
    let init = request.init.iter().flat_map(|init| [&init.latents, &init.mask, &init.masked_latents]).flatten();
    let states = request.resume_from.iter().flat_map(|checkpoint| &checkpoint.states);
    let tensors = embeds.into_iter().flatten().chain(init).chain(states.filter_map(|state| state.tensor.as_ref()));
    tensors.map(|tensor| tensor.data.len()).sum()
}
