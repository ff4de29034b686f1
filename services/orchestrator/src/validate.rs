//! A request becomes a checked [`Job`], or a refusal that names the field, its value and what is allowed.

use darkroom_proto::v1::{self, GenerateRequest, PromptSyntax};
use darkroom_service_kit::status::{self, shown};
use tonic::Status;

use crate::job::{Format, Job, Output, Priority, steps};
use crate::model::Model;

mod hires;
mod init;
mod loras;
mod noise;

/// Characters of a prompt.
const MAX_PROMPT: usize = 8192;
/// Characters of a request's name.
const MAX_REQUEST_ID: usize = 128;
pub(crate) const MAX_STEPS: u32 = 1000;
const MAX_GUIDANCE_SCALE: f64 = 50.0;

/// What this server allows, whatever the model could do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_images: u32,
    pub(crate) max_side: u32,
}

/// A field that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct Refusal {
    pub(crate) field: &'static str,
    pub(crate) message: String,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        status::invalid_argument(refusal.field, refusal.message)
    }
}

/// Checks every field and fills in the defaults. `init_size` is that of the request's init_image, if there is one. `random` is drawn from
/// for an absent seed and an absent name.
///
/// # Errors
/// The first field that is wrong.
pub(crate) fn validate(
    request: GenerateRequest,
    model: &Model,
    limits: Limits,
    init_size: Option<[u32; 2]>,
    mut random: impl FnMut() -> u64,
) -> Result<Job, Refusal> {
    let defaults = &model.defaults;
    let [width, height] = init::size(&request, model, limits, init_size)?;
    let asked = init::Asked::of(&request);
    let second = request.hires;
    let sampler = if request.sampler.is_empty() { defaults.sampler.clone() } else { request.sampler.clone() };
    let sampler = one_of("sampler", sampler, &model.samplers)?;
    let mut job = Job {
        init: None,
        hires: None,
        loras: loras::checked(request.loras, model)?,
        model: named_model(&request.model, model)?,
        width: side("width", width, model, limits)?,
        height: side("height", height, model, limits)?,
        num_images: range("num_images", request.num_images.unwrap_or(1), 1, limits.max_images)?,
        seed: request.seed.unwrap_or_else(&mut random),
        rng: noise::rng(request.rng)?,
        variation: noise::variation(request.variation_seed, request.variation_strength, &mut random)?,
        num_inference_steps: range(
            "num_inference_steps",
            request.num_inference_steps.unwrap_or(defaults.num_inference_steps),
            1,
            model.max_steps(&sampler).min(MAX_STEPS),
        )?,
        sigma_spacing: sigma_spacing(request.sigma_spacing, &sampler, model)?,
        guidance_scale: real(
            "guidance_scale",
            request.guidance_scale.unwrap_or(defaults.guidance_scale),
            MAX_GUIDANCE_SCALE,
        )?,
        eta: real("eta", request.eta.unwrap_or(0.0), 1.0)?,
        clip_skip: range("clip_skip", request.clip_skip.unwrap_or(0), 0, model.max_clip_skip)?,
        preview_every: request.preview_every,
        output: output(request.output_format)?,
        priority: priority(request.priority)?,
        sampler,
        prompt: prompt(request.prompt)?,
        negative_prompt: text("negative_prompt", request.negative_prompt)?,
        prompt_syntax: prompt_syntax(request.prompt_syntax)?,
        request_id: request_id(request.request_id, random)?,
    };
    if job.eta != 0.0 && job.sampler != "ddim" {
        return refuse("eta", format!("{} is only for the sampler ddim, {} takes 0", job.eta, job.sampler));
    }
    job.init = asked.init(&job, model)?;
    job.hires = second.map(|second| hires::checked(second, &job, model, limits)).transpose()?;
    Ok(job)
}

fn named_model(name: &str, model: &Model) -> Result<String, Refusal> {
    if name.is_empty() || name == model.name {
        return Ok(model.name.clone());
    }
    refuse("model", format!("{} is not served here, known is {:?}", shown(name), model.name))
}

fn prompt(prompt: String) -> Result<String, Refusal> {
    if prompt.trim().is_empty() {
        return refuse("prompt", format!("is empty, 1 to {MAX_PROMPT} characters are needed"));
    }
    text("prompt", prompt)
}

fn text(field: &'static str, text: String) -> Result<String, Refusal> {
    // Counting stops where it is too much already.
    match text.chars().nth(MAX_PROMPT) {
        None => Ok(text),
        Some(_) => {
            let count = text.chars().count();
            refuse(field, format!("has {count} characters, at most {MAX_PROMPT} are allowed"))
        }
    }
}

fn prompt_syntax(syntax: i32) -> Result<PromptSyntax, Refusal> {
    match PromptSyntax::try_from(syntax) {
        Ok(PromptSyntax::Unspecified | PromptSyntax::Plain) => Ok(PromptSyntax::Plain),
        Ok(PromptSyntax::Weighted) => Ok(PromptSyntax::Weighted),
        Err(_) => refuse("prompt_syntax", format!("{syntax} is not known, use PLAIN or WEIGHTED")),
    }
}

fn request_id(id: String, mut random: impl FnMut() -> u64) -> Result<String, Refusal> {
    if id.is_empty() {
        return Ok(format!("{:016x}", random()));
    }
    if id.len() > MAX_REQUEST_ID {
        return refuse("request_id", format!("has {} characters, at most {MAX_REQUEST_ID} are allowed", id.len()));
    }
    match id.chars().find(|letter| !matches!(letter, ' '..='~')) {
        None => Ok(id),
        Some(bad) => refuse("request_id", format!("holds {bad:?}, only printable ASCII is allowed")),
    }
}

fn side(field: &'static str, value: u32, model: &Model, limits: Limits) -> Result<u32, Refusal> {
    let (low, high, multiple) = (model.min_side, model.max_side.min(limits.max_side), model.side_multiple);
    if (low..=high).contains(&value) && value.is_multiple_of(multiple) {
        return Ok(value);
    }
    refuse(field, format!("{value} is not allowed, it must be a multiple of {multiple} from {low} to {high}"))
}

fn range(field: &'static str, value: u32, low: u32, high: u32) -> Result<u32, Refusal> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    refuse(field, format!("{value} is not allowed, it must be {low} to {high}"))
}

fn real(field: &'static str, value: f64, high: f64) -> Result<f64, Refusal> {
    // A NaN is in no range.
    if (0.0..=high).contains(&value) {
        return Ok(value);
    }
    refuse(field, format!("{value} is not allowed, it must be 0 to {high}"))
}

/// How much of a picture is lost to noise, where at least one of the steps must remain.
fn strength(field: &'static str, value: f64, num_inference_steps: u32) -> Result<f64, Refusal> {
    // A NaN is in no range.
    if (0.0..=1.0).contains(&value) && steps(value, num_inference_steps) > 0 {
        return Ok(value);
    }
    let least = 1.0 / f64::from(num_inference_steps);
    refuse(field, format!("{value} is not allowed, with {num_inference_steps} steps it must be {least} to 1"))
}

fn one_of(field: &'static str, value: String, known: &[String]) -> Result<String, Refusal> {
    if known.contains(&value) {
        return Ok(value);
    }
    refuse(field, format!("{} is not known, use one of {}", shown(&value), known.join(", ")))
}

fn sigma_spacing(spacing: String, sampler: &str, model: &Model) -> Result<String, Refusal> {
    const FIELD: &str = "sigma_spacing";
    match model.sigma_spacings(sampler) {
        _ if spacing.is_empty() => Ok(spacing),
        [] => refuse(FIELD, format!("{} is not for the sampler {sampler}, which has none", shown(&spacing))),
        known => one_of(FIELD, spacing, known),
    }
}

fn output(format: i32) -> Result<Output, Refusal> {
    match v1::OutputFormat::try_from(format) {
        Ok(v1::OutputFormat::Unspecified | v1::OutputFormat::Png) => Ok(Output::Picture(Format::Png)),
        Ok(v1::OutputFormat::Jpeg) => Ok(Output::Picture(Format::Jpeg)),
        Ok(v1::OutputFormat::Webp) => Ok(Output::Picture(Format::Webp)),
        Ok(v1::OutputFormat::Latents) => Ok(Output::Latents),
        Err(_) => refuse("output_format", format!("{format} is not known, use PNG, JPEG, WEBP or LATENTS")),
    }
}

fn priority(priority: i32) -> Result<Priority, Refusal> {
    match v1::Priority::try_from(priority) {
        Ok(v1::Priority::Unspecified | v1::Priority::Normal) => Ok(Priority::Normal),
        Ok(v1::Priority::Low) => Ok(Priority::Low),
        Ok(v1::Priority::High) => Ok(Priority::High),
        Err(_) => refuse("priority", format!("{priority} is not known, use LOW, NORMAL or HIGH")),
    }
}

fn refuse<T>(field: &'static str, message: String) -> Result<T, Refusal> {
    Err(Refusal { field, message })
}

#[cfg(test)]
mod tests;
