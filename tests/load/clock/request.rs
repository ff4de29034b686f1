//! What the clock reads of a denoise request, held against its ranges as the real service does.

use std::ops::RangeInclusive;

use darkroom_engine::{Cost, LatentSize};
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::{self, Dtype, Tensor};
use darkroom_samplers::{Plan, Sampler};
use darkroom_service_kit::status::{failed_precondition, invalid_argument};
use darkroom_stage_kit::refusal::{self, within};
use tonic::Status;

use super::facts::Facts;
use super::latents::Digest;

const STEPS: RangeInclusive<u32> = 1..=1000;
/// Exactly this scale needs no negative prompt.
const UNGUIDED: f64 = 1.0;

/// A request that can be run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    pub(super) digest: Digest,
    pub(super) cost: Cost,
    pub(super) schedule: Schedule,
    /// Evaluations that were done elsewhere.
    pub(super) from: u32,
}

/// Steps and the evaluations that they take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Schedule {
    pub(super) steps: u32,
    per_step: u32,
    extra: i32,
}

impl Schedule {
    fn new(sampler: Sampler, steps: u32) -> Self {
        let cost = sampler.cost();
        Self { steps, per_step: cost.evaluations_per_step, extra: cost.extra_evaluations }
    }

    /// Of the whole request.
    pub(super) fn evaluations(self) -> u32 {
        self.per_step.saturating_mul(self.steps).saturating_add_signed(self.extra).max(1)
    }

    /// Steps that are finished after so many evaluations.
    pub(super) fn finished(self, evaluations: u32) -> u32 {
        if evaluations >= self.evaluations() {
            return self.steps;
        }
        let counted = i64::from(evaluations) - i64::from(self.extra);
        u32::try_from(counted.max(0) / i64::from(self.per_step)).map_or(self.steps, |steps| steps.min(self.steps))
    }
}

/// The digest that the latents of a whole request hold. `prompt` and `negative` are those of the texts.
#[must_use]
pub fn digest(request: &v1::DenoiseRequest, prompt: Digest, negative: Option<Digest>) -> Digest {
    let sampler = request.sampler.parse().unwrap_or(Sampler::Ddim);
    let schedule = Schedule::new(sampler, request.num_inference_steps);
    start(request, prompt, negative).evaluated(0, schedule.evaluations())
}

fn start(request: &v1::DenoiseRequest, prompt: Digest, negative: Option<Digest>) -> Digest {
    let sizes = [request.latent_height, request.latent_width, request.num_inference_steps];
    let numbers = sizes.map(u64::from).into_iter().chain([request.seed, request.guidance_scale.to_bits()]);
    let digest = numbers.fold(Digest::of_text(&request.sampler), Digest::and).and(prompt.0);
    negative.map_or(digest, |negative| digest.and(negative.0))
}

/// # Errors
/// `INVALID_ARGUMENT` for the first field that does not fit, `FAILED_PRECONDITION` for a checkpoint of other plans.
pub(super) fn checked(request: &v1::DenoiseRequest) -> Result<Work, Status> {
    let side = |field, value| within(field, value, 1..=Facts::MAX_LATENT_SIDE).map(|side| side as usize);
    let size = LatentSize {
        height: side("latent_height", request.latent_height)?,
        width: side("latent_width", request.latent_width)?,
    };
    let unknown = |_| invalid_argument("sampler", format!("{:?} is no sampler", request.sampler));
    let sampler: Sampler = request.sampler.parse().map_err(unknown)?;
    let schedule = Schedule::new(sampler, within("num_inference_steps", request.num_inference_steps, STEPS)?);
    let scale = within("guidance_scale", request.guidance_scale, 0.0..=50.0)?;
    let prompt = text(request.prompt_embeds.as_ref(), "prompt_embeds")?;
    let negative = match &request.negative_prompt_embeds {
        Some(tensor) if scale != UNGUIDED => Some(text(Some(tensor), "negative_prompt_embeds")?),
        None if scale == UNGUIDED => None,
        _ => return Err(invalid_argument("negative_prompt_embeds", "only guidance_scale 1 goes without them")),
    };
    let rows = 1 + usize::from(negative.is_some());
    let cost = Cost { size, rows, bytes: 0 };
    let (digest, from) = match &request.resume_from {
        Some(checkpoint) => (kept(checkpoint, schedule)?, checkpoint.evaluation),
        None => (start(request, prompt, negative), 0),
    };
    Ok(Work { digest, cost, schedule, from })
}

fn text(tensor: Option<&Tensor>, field: &'static str) -> Result<Digest, Status> {
    let view = TensorView::required(tensor, field)
        .and_then(|view| view.expect_dtype(Dtype::F32))
        .and_then(|view| view.expect_shape(&[Facts::TOKENS, Facts::WIDTH]));
    view.map_err(|error| refusal::tensor(&error))?;
    tensor.and_then(Digest::read).ok_or_else(|| invalid_argument(field, "it is not from this fleet's text encoders"))
}

fn kept(checkpoint: &v1::Checkpoint, schedule: Schedule) -> Result<Digest, Status> {
    if checkpoint.plan_version != Plan::VERSION {
        return Err(failed_precondition("resume_from.plan_version", "the plans are of another version"));
    }
    within("resume_from.evaluation", checkpoint.evaluation, 0..=schedule.evaluations() - 1)?;
    let tensor = checkpoint.states.first().and_then(|state| state.tensor.as_ref());
    tensor
        .and_then(Digest::read)
        .ok_or_else(|| invalid_argument("resume_from.states", "it is not from this fleet's denoisers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_finished_when_their_evaluations_are() {
        let finished = |sampler, steps| {
            let schedule = Schedule::new(sampler, steps);
            (1..=schedule.evaluations()).map(|done| schedule.finished(done)).collect::<Vec<_>>()
        };
        assert_eq!(finished(Sampler::Ddim, 3), [1, 2, 3]);
        assert_eq!(finished(Sampler::Plms, 3), [0, 1, 2, 3]);
        assert_eq!(finished(Sampler::Heun, 3), [1, 1, 2, 2, 3]);
        assert_eq!(finished(Sampler::Plms, 1), [0, 1]);
    }
}
