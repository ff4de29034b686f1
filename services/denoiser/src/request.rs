//! From a message to an engine's request: every field is held against its range before anything is allocated from it.

use darkroom_engine::{Adapter, DenoiseRequest, Guidance, LatentSize};
use darkroom_models::lora::LoraUse;
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1;
use darkroom_samplers::{ParseError, Plan, PlanError, PlanRequest, Sampler, Start};
use darkroom_service_kit::status::{invalid_argument, shown};
use darkroom_stage_kit::loras;
use darkroom_stage_kit::refusal::{self, within};
use tonic::Status;

use crate::checkpoint;
use crate::init::{self, Beginning};
use crate::stage::DenoiserFacts;

/// As many as text encoders give: 13 windows of 77.
const MAX_TOKENS: usize = 1024;
const MAX_STEPS: u32 = 1000;
const MAX_GUIDANCE_SCALE: f64 = 50.0;
/// The scale at which the unconditional half has no weight and is not computed.
const UNGUIDED: f64 = 1.0;

/// Checks a message and makes a request of it.
///
/// # Errors
/// `INVALID_ARGUMENT` for the first field that does not fit, with its value and what would; `FAILED_PRECONDITION` for a
/// checkpoint of another plan version.
pub(crate) fn checked(
    facts: &DenoiserFacts,
    max_latent_side: u32,
    message: &v1::DenoiseRequest,
) -> Result<DenoiseRequest, Status> {
    let side = |field, value| within(field, value, 1..=max_latent_side).map(|side| side as usize);
    let size = LatentSize {
        height: side("latent_height", message.latent_height)?,
        width: side("latent_width", message.latent_width)?,
    };
    let names = || Sampler::ALL.map(Sampler::name).join(", ");
    let unknown = |_| invalid_argument("sampler", format!("{} is not one of {}", shown(&message.sampler), names()));
    let sampler: Sampler = message.sampler.parse().map_err(unknown)?;
    let Beginning { start, given, noise } = init::checked(facts, message, sampler, size)?;
    let plan = plan(facts, message, sampler, start)?;
    let adapters = loras::checked(&message.loras, &facts.loras)?;
    let adapters = adapters.into_iter().map(|LoraUse { name, weight }| Adapter { name, weight }).collect();
    let prompt = embeds(facts, message.prompt_embeds.as_ref(), "prompt_embeds")?;
    let tokens = prompt.shape()[0];
    let (guidance, embedded_guidance) = guidance(facts, message)?;
    let prompt_embeds = prompt.to_f32().map_err(|error| refusal::tensor(&error))?;
    let channels = facts.latent_channels;
    let resume_from = message.resume_from.as_ref();
    let resume_from =
        resume_from.map(|checkpoint| checkpoint::checked(checkpoint, &plan, channels, size)).transpose()?;
    Ok(DenoiseRequest {
        plan,
        channels,
        size,
        tokens,
        prompt_embeds,
        adapters,
        guidance,
        embedded_guidance,
        given,
        noise: Box::new(noise),
        preview_every: message.preview_every as usize,
        resume_from,
    })
}

fn plan(facts: &DenoiserFacts, message: &v1::DenoiseRequest, sampler: Sampler, start: Start) -> Result<Plan, Status> {
    let steps = within("num_inference_steps", message.num_inference_steps, 1..=MAX_STEPS)?;
    let eta = within("eta", message.eta, 0.0..=1.0)?;
    let spacing = match message.sigma_spacing.as_str() {
        "" => None,
        name => {
            let unknown = |error: ParseError| {
                invalid_argument("sigma_spacing", format!("{} is not {}", shown(name), error.supported))
            };
            Some(name.parse().map_err(unknown)?)
        }
    };
    let request = PlanRequest { eta, spacing, start, ..PlanRequest::new(sampler, steps as usize) };
    facts.schedule.plan(&request).map_err(|error| {
        let field = match error {
            PlanError::NumInferenceSteps { .. } => "num_inference_steps",
            PlanError::Eta(_) | PlanError::EtaUnused { .. } => "eta",
            PlanError::Strength { .. } => "init.strength",
            PlanError::CompVisStart(_) => "init.way",
            PlanError::SpacingUnused { .. } => "sigma_spacing",
        };
        invalid_argument(field, error.to_string())
    })
}

/// The unconditional half, or the scale for a UNet that looks at it. The negative embeddings are there exactly when they are used.
fn guidance(facts: &DenoiserFacts, message: &v1::DenoiseRequest) -> Result<(Option<Guidance>, Option<f64>), Status> {
    const FIELD: &str = "negative_prompt_embeds";
    let scale = within("guidance_scale", message.guidance_scale, 0.0..=MAX_GUIDANCE_SCALE)?;
    match &message.negative_prompt_embeds {
        Some(_) if facts.embeds_guidance => {
            Err(invalid_argument(FIELD, "this model's UNet looks at the guidance scale itself; leave them out"))
        }
        None if facts.embeds_guidance => Ok((None, Some(scale))),
        Some(_) if scale == UNGUIDED => {
            Err(invalid_argument(FIELD, "they are not used at guidance_scale 1; leave them out"))
        }
        None if scale == UNGUIDED => Ok((None, None)),
        None => Err(invalid_argument(FIELD, format!("guidance_scale {scale} needs them; only exactly 1 does not"))),
        Some(tensor) => {
            let view = embeds(facts, Some(tensor), FIELD)?;
            let negative_prompt_embeds = view.to_f32().map_err(|error| refusal::tensor(&error))?;
            Ok((Some(Guidance { tokens: view.shape()[0], negative_prompt_embeds, scale }), None))
        }
    }
}

/// An f32 `[tokens, cross_attention_dim]`, not yet copied.
fn embeds<'a>(
    facts: &DenoiserFacts,
    tensor: Option<&'a v1::Tensor>,
    field: &'static str,
) -> Result<TensorView<'a>, Status> {
    let view = TensorView::required(tensor, field).and_then(|view| view.expect_dtype(v1::Dtype::F32));
    let view = view.map_err(|error| refusal::tensor(&error))?;
    match view.shape() {
        [tokens, width] if *tokens <= MAX_TOKENS && *width == facts.cross_attention_dim => Ok(view),
        found => {
            let width = facts.cross_attention_dim;
            let message = format!("the shape {found:?} is not [1 to {MAX_TOKENS} tokens, {width}]");
            Err(invalid_argument(field, message))
        }
    }
}
