//! What a caller hands to the engine, and what comes back.

use std::time::Duration;

use darkroom_samplers::Plan;

use crate::events::{Events, Sender};
use crate::model::NoiseSource;
use crate::slots::{LatentSize, Shape};
use crate::waiting::Abandon;

/// One picture to denoise. Everything in it was checked by the caller.
pub struct DenoiseRequest {
    /// What to compute.
    pub plan: Plan,
    /// Channels of the latents.
    pub channels: usize,
    /// Height and width of the latents.
    pub size: LatentSize,
    /// Rows of `prompt_embeds` and of the guidance's embeddings.
    pub tokens: usize,
    /// `[tokens, width]`, row-major.
    pub prompt_embeds: Vec<f32>,
    /// `None` leaves the unconditional half out: a guidance scale of exactly 1.
    pub guidance: Option<Guidance>,
    /// The initial latents and all later noise.
    pub noise: Box<dyn NoiseSource>,
    /// Predict x₀ at every n-th step; 0 never does.
    pub preview_every: usize,
}

/// What guided requests compute besides the prompt.
pub struct Guidance {
    /// `[tokens, width]` of the negative prompt.
    pub negative_prompt_embeds: Vec<f32>,
    /// `eps = eps(negative) + scale · (eps(prompt) − eps(negative))`.
    pub scale: f64,
}

impl DenoiseRequest {
    /// What each evaluation needs.
    pub(crate) fn shape(&self) -> Shape {
        Shape { size: self.size, rows: if self.guidance.is_some() { 2 } else { 1 } }
    }

    /// Values in the latents.
    pub(crate) fn elements(&self) -> usize {
        self.channels * self.size.height * self.size.width
    }
}

/// A finished step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Steps finished, 1 to `of`.
    pub step: usize,
    /// Steps in all.
    pub of: usize,
    /// Predicted x₀ `[channels, height, width]`, where a preview is due.
    pub predicted_original: Option<Vec<f32>>,
}

/// A finished request.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// `[channels, height, width]`.
    pub latents: Vec<f32>,
    /// From leaving the queue to the end of the last evaluation.
    pub computed: Duration,
    /// In the queue before that.
    pub queued: Duration,
}

/// The events of one request; dropping them cancels it before the next evaluation.
pub type Denoising = Events<Step, Finished>;

/// A request on its way to the model's thread.
pub(crate) struct Submission {
    pub(crate) request: DenoiseRequest,
    pub(crate) events: Sender<Step, Finished>,
}

impl Abandon for Submission {
    fn is_abandoned(&self) -> bool {
        self.events.is_abandoned()
    }
}
