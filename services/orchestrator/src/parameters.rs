//! The settings as text, in the form that AUTOMATIC1111's web UI writes and this field's image viewers read.

use std::fmt::Write;

use crate::job::Job;

/// The settings of picture `index`: the prompt, the negative prompt if there is one, and a line of `Key: value` pairs.
pub(crate) fn parameters(job: &Job, index: u32) -> String {
    let mut text = job.prompt.clone();
    if !job.negative_prompt.is_empty() {
        text.push_str("\nNegative prompt: ");
        text.push_str(&job.negative_prompt);
    }
    let sampler = display_name(&job.sampler);
    // Writing to a String cannot fail.
    _ = write!(
        text,
        "\nSteps: {}, Sampler: {}{}, CFG scale: {}, Seed: {}, Size: {}x{}, Model: {}",
        job.num_inference_steps,
        sampler,
        schedule_type(&job.sigma_spacing),
        job.guidance_scale,
        job.image_seed(index),
        job.width,
        job.height,
        quoted(&job.model),
    );
    if job.eta != 0.0 {
        _ = write!(text, ", Eta: {}", job.eta);
    }
    if let Some(init) = &job.init {
        _ = write!(text, ", Denoising strength: {}", init.strength);
    }
    if job.clip_skip != 0 {
        // There the count starts at 1: "Clip skip: 2" leaves out one layer.
        _ = write!(text, ", Clip skip: {}", job.clip_skip + 1);
    }
    text
}

/// How noise levels are spaced, where that is not the sampler's own way.
fn schedule_type(sigma_spacing: &str) -> &str {
    match sigma_spacing {
        "karras" => ", Schedule type: Karras",
        "exponential" => ", Schedule type: Exponential",
        _ => "",
    }
}

/// The samplers' names as that web UI shows them.
fn display_name(sampler: &str) -> &str {
    match sampler {
        "plms" => "PLMS",
        "ddim" => "DDIM",
        "dpmpp_2m" => "DPM++ 2M",
        "euler" => "Euler",
        "euler_a" => "Euler a",
        "heun" => "Heun",
        "dpm2" => "DPM2",
        "unipc" => "UniPC",
        "lms" => "LMS",
        "dpm2_a" => "DPM2 a",
        "dpmpp_2m_sde" => "DPM++ 2M SDE",
        "dpmpp_sde" => "DPM++ SDE",
        "lcm" => "LCM",
        "ddpm" => "DDPM",
        other => other,
    }
}

/// A value that would break the line of pairs stands in quotes there.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '\n', '"']) {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        return format!("\"{escaped}\"");
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fakes;

    #[test]
    fn the_usual_form() {
        let job = Job { seed: 41, ..fakes::job() };
        assert_eq!(
            parameters(&job, 1),
            "a red circle\nSteps: 4, Sampler: PLMS, CFG scale: 7.5, Seed: 42, Size: 64x64, Model: fake"
        );
    }

    #[test]
    fn everything_that_differs_is_told() {
        let job = Job {
            negative_prompt: "blur".into(),
            sampler: "ddim".into(),
            sigma_spacing: "karras".into(),
            eta: 0.5,
            clip_skip: 1,
            model: "a,\"b\"".into(),
            ..fakes::job()
        };
        assert_eq!(
            parameters(&job, 0),
            "a red circle\nNegative prompt: blur\nSteps: 4, Sampler: DDIM, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 64x64, \
             Model: \"a,\\\"b\\\"\", Eta: 0.5, Clip skip: 2"
        );
    }
}
