//! What the server tells while it works, as plain types.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use crate::request::{PromptSyntax, Rng};

/// One event of a [`Generation`](crate::Generation). The last one is [`Event::Completed`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The request waits.
    Queued(Queued),
    /// The request left the queue; all settings as they are used.
    Started(Settings),
    /// A step of one picture is done.
    Step(Step),
    /// One picture is finished.
    Image(Image),
    /// One picture could not be made; the request's others go on.
    ImageFailed(Failed),
    /// Everything is done.
    Completed(Completed),
}

/// The request's place in the server's queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Requests before this one; 0 is next.
    pub position: u32,
    /// Time until it starts, as measured so far; `None` when nothing was measured yet.
    pub estimated: Option<Duration>,
}

/// All settings of a request, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The model's name.
    pub model: String,
    /// Width in pixels, of the first pass.
    pub width: u32,
    /// Height in pixels, of the first pass.
    pub height: u32,
    /// How many pictures.
    pub num_images: u32,
    /// The first picture's seed; picture *i* uses seed + *i*.
    pub seed: u64,
    /// The sampler's name.
    pub sampler: String,
    /// Steps of the sampler.
    pub num_inference_steps: u32,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// DDIM's η.
    pub eta: f64,
    /// Last layers of the text tower that are left out.
    pub clip_skip: u32,
    /// How much of the picture that the request begins from is lost to noise; `None` without one.
    pub strength: Option<f64>,
    /// How the sampler's noise levels are spaced; empty: as its timesteps lie.
    pub sigma_spacing: String,
    /// Whose noise the seeds stand for.
    pub rng: Rng,
    /// What the first picture's initial noise is turned towards; picture *i* has its seed + *i*.
    pub variation: Option<Variation>,
    /// The second pass, where there is one.
    pub hires: Option<Hires>,
    /// How the prompts are read.
    pub prompt_syntax: PromptSyntax,
    /// The LoRAs in use.
    pub loras: Vec<Lora>,
}

/// A LoRA in use.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// As the server names it.
    pub name: String,
    /// How much of it is added.
    pub weight: f64,
}

/// A second pass at a larger size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hires {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How much of the enlarged picture is lost to noise.
    pub strength: f64,
}

/// Some of the way towards another seed's noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variation {
    /// The other seed.
    pub seed: u64,
    /// 0: the own noise, 1: the other's.
    pub strength: f64,
}

/// Progress of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which of the request's pictures, from 0.
    pub image_index: u32,
    /// Steps finished, 1 to `of`.
    pub step: u32,
    /// Steps in all.
    pub of: u32,
    /// What the latents promise so far, when the request asked for previews.
    pub preview: Option<Preview>,
}

/// A small picture, one pixel a latent.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The encoded picture.
    pub data: Bytes,
    /// Its media type, `image/png`.
    pub media_type: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// What the safety checker said of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SafetyVerdict {
    /// No safety checker ran.
    NotChecked,
    /// It found nothing.
    Passed,
    /// It found something.
    Flagged,
}

/// A finished picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Which of the request's pictures, from 0.
    pub image_index: u32,
    /// Its own seed.
    pub seed: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What the safety checker said.
    pub safety: SafetyVerdict,
    /// The settings as image viewers of this field read them; a PNG carries the same text.
    pub parameters: String,
    /// The picture itself.
    pub picture: Picture,
}

/// The result's form, as [`OutputFormat`](crate::OutputFormat) asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    /// An encoded picture.
    Encoded {
        /// The file's bytes.
        data: Bytes,
        /// `image/png`, `image/jpeg` or `image/webp`.
        media_type: String,
    },
    /// The final latents.
    Latents(Latents),
}

/// Latents in the UNet's scale, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    /// `[channels, height / 8, width / 8]`.
    pub shape: [usize; 3],
    /// The elements, all finite.
    pub values: Vec<f32>,
}

/// A picture that could not be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// Which of the request's pictures, from 0.
    pub image_index: u32,
    /// Its own seed.
    pub seed: u64,
    /// The kind of error.
    pub code: Code,
    /// One line for people.
    pub message: String,
}

/// The end of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// Where the time went.
    pub seconds: StageSeconds,
    /// What the caller should know, such as the end of a prompt that was left out.
    pub warnings: Vec<Warning>,
    /// Pictures that were made.
    pub images: u32,
    /// Pictures that failed.
    pub failed: u32,
}

/// Seconds that a request spent in each stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageSeconds {
    /// Waiting in the orchestrator's queue.
    pub queue: f64,
    /// In the text encoder.
    pub text_encoder: f64,
    /// From the first denoise call to the end of the last.
    pub denoiser: f64,
    /// In the VAE.
    pub vae: f64,
    /// From arrival to completion.
    pub total: f64,
}

/// Something the caller should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The request field that it is about.
    pub field: String,
    /// One line for people.
    pub message: String,
}

impl Image {
    /// The encoded file's bytes; empty for latents.
    pub fn data(&self) -> &[u8] {
        match &self.picture {
            Picture::Encoded { data, .. } => data,
            Picture::Latents(_) => &[],
        }
    }
}
