//! The way of one picture: denoise in its slot, decode, write the file, send it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::{DenoiseRequest, Tensor};
use tonic::Status;

use crate::admission::Slot;
use crate::events::{Content, Events, Finished, Gone, Preview};
use crate::job::{Job, Output};
use crate::model::Model;
use crate::parameters::parameters;
use crate::picture::{self, PictureError, Rgb};
use crate::stages::Stage;
use crate::stages::calls::Calls;
use crate::stages::denoising::Progress;

/// What the pictures of a request share.
pub(super) struct ImageTask {
    pub(super) calls: Arc<Calls>,
    pub(super) job: Arc<Job>,
    pub(super) model: Arc<Model>,
    pub(super) deadline: Option<Instant>,
    pub(super) events: Events,
    /// f32 [max_tokens, hidden_size].
    pub(super) prompt: Tensor,
    pub(super) negative: Option<Tensor>,
}

/// When a picture was denoised, and how long its decoding took.
pub(super) struct ImageTimes {
    pub(super) denoised: Instant,
    pub(super) vae: Duration,
}

/// Why a picture is not there.
pub(super) enum ImageFailed {
    /// Nobody listens any more.
    Gone,
    Status(Status),
}

impl From<Gone> for ImageFailed {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Status> for ImageFailed {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<PictureError> for ImageFailed {
    fn from(error: PictureError) -> Self {
        Self::Status(Status::internal(error.to_string()))
    }
}

impl ImageTask {
    /// Makes picture `index` in `slot`, which is free again as soon as the latents are there.
    pub(super) async fn run(self: Arc<Self>, index: u32, slot: Slot) -> (u32, Result<ImageTimes, ImageFailed>) {
        (index, self.make(index, slot).await)
    }

    async fn make(&self, index: u32, slot: Slot) -> Result<ImageTimes, ImageFailed> {
        let latents = self.denoise(index, slot).await?;
        let denoised = Instant::now();
        let job = &self.job;
        let parameters = parameters(job, index);
        let (content, vae) = match job.output {
            Output::Latents => (Content::Latents(latents), Duration::ZERO),
            Output::Picture(format) => {
                let rgb = self.calls.decode(latents, job.width, job.height, self.deadline).await?;
                let decoded = Instant::now();
                let data = picture::encode(rgb, format, parameters.clone()).await?;
                self.calls.metrics.stage_seconds("picture", decoded.elapsed());
                (Content::File { data, media_type: format.media_type() }, decoded - denoised)
            }
        };
        self.events.image(job, Finished { index, content, parameters }).await?;
        self.calls.metrics.images_total.increment(1);
        Ok(ImageTimes { denoised, vae })
    }

    async fn denoise(&self, index: u32, mut slot: Slot) -> Result<Tensor, ImageFailed> {
        let started = Instant::now();
        let mut denoising = self.calls.denoise(self.request(index), &self.model, self.deadline).await?;
        loop {
            match denoising.next().await? {
                Progress::Step { step, of, preview } => {
                    slot.progress(step, of);
                    let preview = match preview {
                        Some(rgb) => Some(encode_preview(rgb).await?),
                        None => None,
                    };
                    self.events.step(index, step, of, preview);
                }
                Progress::Finished { latents, seconds } => {
                    slot.measure(seconds);
                    self.calls.metrics.stage_seconds(Stage::Denoiser.name(), started.elapsed());
                    return Ok(latents);
                }
            }
        }
    }

    fn request(&self, index: u32) -> DenoiseRequest {
        let job = &self.job;
        DenoiseRequest {
            request_id: format!("{}/{index}", job.request_id),
            latent_height: job.height / self.model.factor,
            latent_width: job.width / self.model.factor,
            prompt_embeds: Some(self.prompt.clone()),
            negative_prompt_embeds: self.negative.clone(),
            sampler: job.sampler.clone(),
            num_inference_steps: job.num_inference_steps,
            guidance_scale: job.guidance_scale,
            eta: job.eta,
            seed: job.image_seed(index),
            preview_every: job.preview_every,
            resume_from: None,
            attempt: 0,
        }
    }
}

async fn encode_preview(rgb: Rgb) -> Result<Preview, PictureError> {
    let (width, height) = (rgb.width, rgb.height);
    Ok(Preview { data: picture::preview(rgb).await?, width, height })
}
