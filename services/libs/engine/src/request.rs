//! What a caller hands to the engine, and what comes back.

use std::time::Duration;

use darkroom_samplers::Plan;

use crate::checkpoint::Checkpoint;
use crate::events::Sender;
use crate::given::Given;
use crate::load::Remaining;
use crate::model::{DenoiseModel, NoiseSource};
use crate::run;
use crate::slots::{Cost, LatentSize};
use crate::trace::InLine;
use crate::waiting::Abandon;

/// One picture to denoise. Everything in it was checked by the caller.
pub struct DenoiseRequest {
    /// What to compute.
    pub plan: Plan,
    /// Channels of the latents.
    pub channels: usize,
    /// Height and width of the latents.
    pub size: LatentSize,
    /// Rows of `prompt_embeds`.
    pub tokens: usize,
    /// `[tokens, width]`, row-major.
    pub prompt_embeds: Vec<f32>,
    /// What changes the model for this request alone.
    pub adapters: Vec<Adapter>,
    /// `None` leaves the unconditional half out: a guidance scale of exactly 1, or a model that looks at the scale itself.
    pub guidance: Option<Guidance>,
    /// The scale, for a model that looks at it.
    pub embedded_guidance: Option<f64>,
    /// What it begins from and keeps to besides noise.
    pub given: Given,
    /// The initial latents and all later noise.
    pub noise: Box<dyn NoiseSource>,
    /// Predict x₀ at every n-th step; 0 never does.
    pub preview_every: usize,
    /// Go on from here instead of the start. Everything else is as in the request that it was made of.
    pub resume_from: Option<Checkpoint>,
}

/// A change of the model by its name, such as a LoRA, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// As the model knows it.
    pub name: String,
    /// 1 is all of it.
    pub weight: f64,
}

/// What guided requests compute besides the prompt.
pub struct Guidance {
    /// Rows of `negative_prompt_embeds`: another number than the prompt's where one of them is long.
    pub tokens: usize,
    /// `[tokens, width]` of the negative prompt.
    pub negative_prompt_embeds: Vec<f32>,
    /// `eps = eps(negative) + scale · (eps(prompt) − eps(negative))`.
    pub scale: f64,
}

impl DenoiseRequest {
    /// What it takes to run on `model`. Texts and adapters that requests share are charged to each.
    pub(crate) fn cost<M: DenoiseModel>(&self, model: &M) -> Cost {
        let rows = self.rows();
        let held = run::held_bytes(&self.plan, self.elements(), &self.given, rows);
        let held = held.saturating_add(model.adapter_bytes(&self.adapters));
        let texts = [Some(self.tokens), self.guidance.as_ref().map(|guidance| guidance.tokens)];
        let bytes =
            texts.into_iter().flatten().map(|tokens| model.context_bytes(tokens)).fold(held, usize::saturating_add);
        Cost { size: self.size, rows, bytes }
    }

    /// What it has still to do.
    pub(crate) fn remaining(&self) -> Remaining {
        Remaining { size: self.size, rows: self.rows(), evaluations: self.evaluations() }
    }

    /// Evaluations from where it starts.
    pub fn evaluations(&self) -> usize {
        let done = self.resume_from.as_ref().map_or(0, |checkpoint| checkpoint.evaluation);
        self.plan.num_evaluations().saturating_sub(done)
    }

    fn rows(&self) -> usize {
        if self.guidance.is_some() { 2 } else { 1 }
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

/// A request on its way to the model's thread.
pub(crate) struct Submission {
    pub(crate) request: DenoiseRequest,
    pub(crate) events: Sender,
    pub(crate) in_line: InLine,
}

impl Abandon for Submission {
    fn is_abandoned(&self) -> bool {
        self.events.is_abandoned()
    }
}
