//! The settings as text, in the form that AUTOMATIC1111's web UI writes and this field's image viewers read: `create_infotext` of its
//! `modules/processing.py`, and `quote` of `modules/infotext_utils.py`.

use std::fmt::Write;

use darkroom_proto::v1::{PromptSyntax, Rng};

use crate::job::{Job, Lora};

/// The settings of picture `index`: the prompt, the negative prompt if there is one, and a line of `Key: value` pairs.
pub(crate) fn parameters(job: &Job, index: u32) -> String {
    let mut text = job.prompt.clone();
    for Lora { name, weight } in &job.loras {
        // Writing to a String cannot fail.
        _ = write!(text, " <lora:{name}:{weight}>");
    }
    if !job.negative_prompt.is_empty() {
        text.push_str("\nNegative prompt: ");
        text.push_str(&job.negative_prompt);
    }
    let sampler = display_name(&job.sampler);
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
    if let Some(variation) = job.image_variation(index) {
        _ = write!(text, ", Variation seed: {}, Variation seed strength: {}", variation.seed, variation.strength);
    }
    if let Some(strength) = job.init.map(|init| init.strength).or(job.hires.map(|hires| hires.strength)) {
        _ = write!(text, ", Denoising strength: {strength}");
    }
    if job.clip_skip != 0 {
        // There the count starts at 1: "Clip skip: 2" leaves out one layer.
        _ = write!(text, ", Clip skip: {}", job.clip_skip + 1);
    }
    // There brackets weigh words where nothing else is said.
    let has_brackets = |text: &str| text.contains(['(', '[']);
    if job.prompt_syntax == PromptSyntax::Plain && (has_brackets(&job.prompt) || has_brackets(&job.negative_prompt)) {
        text.push_str(", Emphasis: None");
    }
    // What a GPU gives is taken for granted there.
    if job.rng == Rng::Cpu {
        text.push_str(", RNG: CPU");
    }
    if let Some(hires) = &job.hires {
        _ = write!(text, ", Hires resize: {}x{}, Hires upscaler: Lanczos", hires.width, hires.height);
    }
    if job.eta != 0.0 {
        // "Eta" alone is that of the ancestral samplers.
        _ = write!(text, ", Eta DDIM: {}", job.eta);
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

/// A value that would break the line of pairs stands there as a JSON string, and so does one that would be taken for one.
fn quoted(value: &str) -> String {
    if !value.contains([',', ':', '\n']) && !value.starts_with('"') {
        return value.to_owned();
    }
    // As Python's JSON is written, letter by letter.
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use darkroom_proto::v1::Variation;

    use super::*;
    use crate::job::Hires;
    use crate::tests::fakes;

    #[test]
    fn the_usual_form() {
        let job = Job { seed: 41, ..fakes::job() };
        assert_eq!(
            parameters(&job, 1),
            "a red circle\nSteps: 4, Sampler: PLMS, CFG scale: 7.5, Seed: 42, Size: 64x64, Model: fake, RNG: CPU"
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
            hires: Some(Hires { width: 128, height: 192, strength: 0.5 }),
            rng: Rng::Cuda,
            variation: Some(Variation { seed: 7, strength: 0.25 }),
            loras: [("flat", 0.5), ("ink v2", -1.0)].map(|(name, weight)| Lora { name: name.into(), weight }).into(),
            ..fakes::job()
        };
        assert_eq!(
            parameters(&job, 2),
            "a red circle <lora:flat:0.5> <lora:ink v2:-1>\nNegative prompt: blur\nSteps: 4, Sampler: DDIM, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 64x64, \
             Model: \"a,\\\"b\\\"\", Variation seed: 9, Variation seed strength: 0.25, Denoising strength: 0.5, Clip skip: 2, Hires resize: 128x192, Hires upscaler: Lanczos, Eta DDIM: 0.5"
        );
    }

    #[test]
    fn brackets_that_do_not_weigh_are_told() {
        let told = |prompt: &str, prompt_syntax| {
            let job = Job { prompt: prompt.into(), prompt_syntax, ..fakes::job() };
            parameters(&job, 0).contains(", Emphasis: None")
        };
        assert!(told("a (red) circle", PromptSyntax::Plain));
        assert!(told("a [red] circle", PromptSyntax::Plain));
        assert!(!told("a red circle", PromptSyntax::Plain));
        assert!(!told("a (red) circle", PromptSyntax::Weighted));
    }

    #[test]
    fn values_are_quoted_where_that_web_ui_quotes_them() {
        for (value, written) in [
            ("v1-5 pruned", "v1-5 pruned"),
            ("a \"b\"", "a \"b\""),
            ("\"b\"", r#""\"b\"""#),
            ("a, b", r#""a, b""#),
            ("c:\\d\te\u{1}", r#""c:\\d\te\u0001""#),
            ("é:\n猫", r#""é:\n猫""#),
        ] {
            assert_eq!(quoted(value), written);
        }
    }
}
