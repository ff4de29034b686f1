//! One pass of a picture, however many denoisers it takes: when one dies, hangs or leaves, the next goes on from the last
//! checkpoint, and the result has the bytes of an undisturbed run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::{Checkpoint, DenoiseRequest, Tensor};
use darkroom_service_kit::status::{self, code_name};
use darkroom_service_kit::trace::Ending;
use tokio::sync::oneshot::Receiver;
use tokio::time::timeout;
use tonic::Status;
use tracing::{Instrument, Span};

use super::image_task::{ImageTask, encode_preview};
use super::pass::Pass;
use super::track::{Resume, Track};
use crate::admission::Slot;
use crate::metrics::OrchestratorMetrics;
use crate::stages::attempts::Attempts;
use crate::stages::denoising::{Denoising, Progress};
use crate::stages::fault::{Failure, Fault};
use crate::stages::retry::Got;
use crate::stages::{Lease, Stage};
use crate::trace;

/// A picture that waits for room looks so often whether anybody is left to make it.
const LOOK: Duration = Duration::from_secs(1);

/// How one try ended.
enum End {
    Latents {
        latents: Tensor,
        seconds: f64,
    },
    /// Its worker leaves and another is there.
    Drained,
    Failed(Failure, Got),
}

impl ImageTask {
    /// Makes a pass in `slot`; latents, and the seconds that the last worker needed.
    pub(super) async fn denoise(&self, pass: &Pass, slot: &mut Slot) -> Result<(Tensor, f64), Status> {
        let started = Instant::now();
        let mut kept = Kept { track: Track::default(), bytes: 0, metrics: Arc::clone(&self.calls.metrics) };
        let evaluations = self.model.evaluations(&self.job.sampler, pass.steps).into();
        let pin = &self.model.pins.denoiser;
        let mut attempts = Attempts::new(&self.calls, Stage::Denoiser, pin, evaluations, self.deadline);
        let mut from: Option<Checkpoint> = None;
        let mut parked: Option<Receiver<()>> = None;
        loop {
            let lease = attempts.lease().await?;
            // Somebody is there, and may have no room: a picture that only waits there would be lost with it, again and again.
            if let Some(resumed) = &mut parked {
                drop(lease);
                _ = timeout(LOOK, resumed).await.map(|_| parked = None);
                continue;
            }
            let address = lease.worker().address.clone();
            let span = trace::denoise(&address, kept.track.attempt(), kept.track.first_step());
            let end = self.stint(lease, pass, from.take(), &mut kept, slot).instrument(span).await?;
            let further = kept.track.got_further();
            if further {
                attempts.got_further();
            }
            let (reason, afresh) = match end {
                End::Latents { latents, seconds } => {
                    self.calls.metrics.stage_seconds(Stage::Denoiser, started.elapsed());
                    return Ok((latents, seconds));
                }
                End::Drained => {
                    attempts.left(address);
                    ("drained", false)
                }
                End::Failed(failure, got) => {
                    let got = if further { Got::Further } else { got };
                    let (fault, message) = (failure.fault, failure.status.message().to_owned());
                    attempts.failed(address, failure, got).await?;
                    tracing::warn!(request_id = %self.job.request_id, index = pass.index, "goes on elsewhere: {message}");
                    (fault.name(), fault == Fault::PlanVersion)
                }
            };
            let resume = kept.next(afresh);
            self.calls.metrics.resumed(reason, &resume);
            parked = Some(slot.park());
            from = resume.from;
        }
    }

    /// One try, and what becomes of it for its span.
    async fn stint(
        &self,
        lease: Lease,
        pass: &Pass,
        from: Option<Checkpoint>,
        kept: &mut Kept,
        slot: &mut Slot,
    ) -> Result<End, Status> {
        let ending = Ending::of(&Span::current());
        let counted = Counted(kept);
        let end = async {
            let expected = slot.expected_evaluation();
            let request = self.request(pass, from, counted.0.track.attempt());
            match self.calls.denoise(lease, request, &self.model, expected, self.deadline).await {
                Ok(denoising) => self.listen(denoising, pass, counted.0, slot).await,
                Err(failure) => Ok(End::Failed(failure, Got::Nowhere)),
            }
        };
        let end = end.await;
        match &end {
            Ok(End::Latents { .. }) => ending.well("finished"),
            Ok(End::Drained) => ending.well("drained"),
            Ok(End::Failed(failure, _)) => ending.badly(failure.fault.name(), code_name(failure.status.code())),
            Err(status) => ending.badly("failed", code_name(status.code())),
        }
        end
    }

    /// Follows one try to its end.
    async fn listen(
        &self,
        mut denoising: Denoising,
        pass: &Pass,
        kept: &mut Kept,
        slot: &mut Slot,
    ) -> Result<End, Status> {
        let mut leaving = false;
        loop {
            let progress = match denoising.next().await {
                Ok(progress) => progress,
                Err(failure) => {
                    let queued = failure.fault == Fault::Died && !denoising.has_begun();
                    let got = if queued { Got::Queued } else { Got::Nowhere };
                    return Ok(End::Failed(failure, got));
                }
            };
            // Where the work rests, nothing is lost by a move.
            let rests = match progress {
                Progress::Step { step, of, preview } => {
                    let before = kept.track.done();
                    if kept.track.step(step) {
                        self.calls.metrics.steps.increment((step - before).into());
                        let (done, work) = pass.weighed(&self.job, step, of);
                        if !slot.progress(done, work) {
                            return Err(status::deadline_exceeded());
                        }
                        let preview = match preview {
                            Some(rgb) => Some(encode_preview(rgb).await?),
                            None => None,
                        };
                        let (step, of) = pass.told(step, of);
                        self.log.step(pass.index, step, of, preview);
                    }
                    false
                }
                Progress::Finished { latents, seconds } => return Ok(End::Latents { latents, seconds }),
                Progress::Draining => {
                    leaving = true;
                    // All that was done there came in a checkpoint before this.
                    true
                }
                Progress::Checkpoint(checkpoint) => {
                    kept.checkpoint(checkpoint);
                    true
                }
            };
            // With nobody else there, the worker goes on as long as it may.
            if leaving && rests && self.another_is_there(&denoising) {
                return Ok(End::Drained);
            }
        }
    }

    fn another_is_there(&self, denoising: &Denoising) -> bool {
        self.calls.stages.has_another(Stage::Denoiser, &self.model.pins.denoiser, denoising.address())
    }

    fn request(&self, pass: &Pass, resume_from: Option<Checkpoint>, attempt: u32) -> DenoiseRequest {
        let job = &self.job;
        DenoiseRequest {
            request_id: format!("{}/{}", job.request_id, pass.index),
            latent_height: pass.size[1] / self.model.factor,
            latent_width: pass.size[0] / self.model.factor,
            prompt_embeds: Some(self.prompt.clone()),
            negative_prompt_embeds: self.negative.clone(),
            sampler: job.sampler.clone(),
            num_inference_steps: job.num_inference_steps,
            guidance_scale: job.guidance_scale,
            eta: job.eta,
            sigma_spacing: job.sigma_spacing.clone(),
            seed: job.image_seed(pass.index),
            preview_every: job.preview_every,
            resume_from,
            attempt,
            rng: job.rng.into(),
            variation: job.image_variation(pass.index),
            init: pass.init.clone(),
            loras: job.lora_messages(),
        }
    }
}

/// However a try ends, its span learns how many steps were done.
struct Counted<'a>(&'a mut Kept);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        Span::current().record("darkroom.steps", i64::from(self.0.track.steps_here()));
    }
}

/// The picture's track, whose bytes are counted as long as it is kept.
struct Kept {
    track: Track,
    bytes: usize,
    metrics: Arc<OrchestratorMetrics>,
}

impl Kept {
    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.track.checkpoint(checkpoint);
        self.count();
    }

    fn next(&mut self, afresh: bool) -> Resume {
        let resume = self.track.next(afresh);
        self.count();
        resume
    }

    fn count(&mut self) {
        let now = self.track.bytes();
        self.metrics.checkpoint_bytes(self.bytes, now);
        self.bytes = now;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.metrics.checkpoint_bytes(self.bytes, 0);
    }
}
