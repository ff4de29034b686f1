//! One try at one picture: a denoise stream, from the worker's first word to the final latents, or to whatever ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::{Checkpoint, DenoiseEvent, DenoiseRequest, Dtype, Tensor};
use tokio::time::{sleep_until, timeout};
use tonic::{Request, Streaming};

use super::calls::{Calls, checked, limit};
use super::fault::{Failure, Fault, broken, hung, too_late, translate};
use super::silence::{Patience, Signs};
use super::{Lease, Stage};
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::picture::Rgb;

/// A checkpoint holds the latents and the sampler's history: no sampler has more tensors.
const MOST_STATES: usize = 16;
/// Of a state's name.
const MOST_LETTERS: usize = 64;
/// Signs of life are looked at this often.
const PULSE: Duration = Duration::from_millis(100);
/// A timer that is so late says that this process did not run: that time is no silence of the worker's.
const OVERSLEPT: Duration = PULSE;

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
    heard: Instant,
    begun: bool,
    deadline: Option<Instant>,
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
        // Silence ends a stream that hangs; the caller's deadline is told to the worker, which ends the work.
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let heard = Instant::now();
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
        Ok(Denoising {
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
            metrics: Arc::clone(&self.metrics),
        })
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
            self.heard = Instant::now();
            match event.event {
                // Accepted, or an event of a later version.
                Some(Event::Accepted(_)) | None => {}
                Some(Event::Step(step)) => {
                    self.begun = true;
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
                    return Ok(Progress::Finished { latents, seconds: finished.seconds });
                }
            }
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.lease.worker().address
    }

    async fn event(&mut self) -> Result<DenoiseEvent, Failure> {
        loop {
            let due = Instant::now() + PULSE;
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
                () = self.lease.worker().lost() => {
                    return Err(hung(self.lease.worker(), "does not answer any more"));
                }
                () = sleep_until(due.into()) => self.pulse(due)?,
            }
        }
    }

    /// Nothing came: is the worker still at it?
    fn pulse(&mut self, due: Instant) -> Result<(), Failure> {
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        if late >= OVERSLEPT {
            self.heard = (self.heard + late).min(now);
        }
        let worker = self.lease.worker();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(too_late(worker, Duration::ZERO, self.deadline));
        }
        let (unseen, unchanged) = worker.silence(now);
        let silent = now.saturating_duration_since(self.heard);
        let signs = Signs { silent, unseen, unchanged, begun: self.begun, draining: worker.is_draining() };
        let seconds = worker.step_seconds().into_iter().chain(self.expected).reduce(f64::max);
        if self.patience.is_hung(self.patience.limit(seconds), &signs) {
            return Err(hung(worker, &format!("has said nothing for {:.1} s", silent.as_secs_f64())));
        }
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
    let states = request.resume_from.iter().flat_map(|checkpoint| &checkpoint.states);
    let tensors = embeds.into_iter().flatten().chain(states.filter_map(|state| state.tensor.as_ref()));
    tensors.map(|tensor| tensor.data.len()).sum()
}
