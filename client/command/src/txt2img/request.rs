//! What a job asks the server for: the flags, the command's recipe, and what a sweep varies.

use darkroom_client::{GenerateRequest, Model};

use crate::txt2img::flags::{Flags, Lora};
use crate::txt2img::init::Recipe;
use crate::txt2img::jobs::Job;

/// The request for a job. What no flag says stays out of it, so that the model's own defaults hold.
pub(crate) fn request(flags: &Flags, recipe: &Recipe, job: &Job, model: Option<&Model>) -> GenerateRequest {
    let (picture, output) = (&flags.picture, &flags.output);
    let mut request = GenerateRequest::new(&job.prompt)
        .negative_prompt(&picture.negative_prompt)
        .num_images(job.num_images)
        .seed(job.seed)
        .preview_every(output.preview_every)
        .output_format(output.format.into());
    if let Some(name) = flags.compute.remote_model() {
        request = request.model(name);
    }
    if let Some(context) = &flags.compute.traceparent {
        request = request.trace_context(context.clone());
    }
    if let Some(sampler) = picture.sampler().or(recipe.sampler) {
        request = request.sampler(sampler);
    }
    if let Some(steps) = picture.steps {
        request = request.num_inference_steps(steps);
    }
    if let Some(scale) = picture.scale {
        request = request.guidance_scale(scale);
    }
    if let Some(spacing) = &picture.sigma_spacing {
        request = request.sigma_spacing(spacing);
    }
    if let Some(rng) = picture.rng {
        request = request.rng(rng.into());
    }
    if let Some(syntax) = picture.prompt_syntax {
        request = request.prompt_syntax(syntax.into());
    }
    for Lora { name, weight } in &picture.lora {
        request = request.lora(name, *weight);
    }
    if let Some(strength) = picture.variation_strength {
        request = request.variation_strength(strength);
    }
    if let Some(seed) = job.variation_seed {
        request = request.variation_seed(seed);
    }
    // Command lines of the reference say 0 with any sampler; the server takes it with ddim alone.
    if let Some(eta) = picture.eta.filter(|&eta| eta > 0.0) {
        request = request.eta(eta);
    }
    if let Some(width) = picture.width {
        request = request.width(width);
    }
    if let Some(height) = picture.height {
        request = request.height(height);
    }
    if let Some((width, height)) = picture.hires {
        request = request.hires(width, height);
    }
    if let Some(strength) = picture.hires_strength {
        request = request.hires_strength(strength);
    }
    if let Some(layers) = picture.clip_skip {
        request = request.clip_skip(layers);
    }
    job.varied
        .iter()
        .fold(recipe.season(request, picture.scale.is_some(), model), |request, setting| setting.set(request))
}
