//! What goes to standard output: the paths of the files, or everything as JSON.

use std::io::Write;
use std::path::Path;

use darkroom_client::{Code, Error, Event, Hires, Lora, Picture, PromptSyntax, Rng, SafetyVerdict, Variation};
use serde_json::{Value, json};

use crate::failure::{Failure, describe};
use crate::txt2img::sweep::Setting;

/// The part of `--help` that explains `--json`.
pub(crate) const JSON_EVENTS: &str = "\
With --json each line of standard output is an object whose \"event\" says what happened:
  queued        position, estimated_seconds (null when unknown)
  started       model, width, height, num_images, seed, sampler, num_inference_steps, guidance_scale, eta, clip_skip,
                sigma_spacing, rng, prompt_syntax, loras (name, weight); null where there is none: variation (seed, strength), hires (width, height, strength), strength
  step          image_index, step, of; preview: the path, where one was saved
  image         image_index, seed, path (null with --skip-save), media_type, width, height, parameters,
                safety: not_checked, passed or flagged
  image_failed  image_index, seed, code, message
  completed     images, failed, seconds (queue, text_encoder, denoiser, vae, total), warnings (field, message)
  grid          path; of a sweep also prompt
  failed        code, message, fields (field, message), retry_seconds: the server's or the connection's error
All but the last two also have request_id. There is a started and a completed for each prompt; in a sweep for each picture, and there
all but the last two also have cell, an object of what varies: {\"scale\":1.5,\"sampler\":\"plms\"}.";

/// Standard output in one of its two forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// An event of the server, with the path of the file that came of it and what is varied in its picture.
    pub(crate) fn event(
        self,
        request_id: &str,
        event: &Event,
        path: Option<&Path>,
        varied: &[Setting],
    ) -> Result<(), Failure> {
        if self.json {
            let Some(mut object) = object(event, path) else { return Ok(()) };
            object["request_id"] = request_id.into();
            if !varied.is_empty() {
                object["cell"] = Setting::object(varied);
            }
            return print(object);
        }
        match (event, path) {
            (Event::Image(_), Some(path)) => print(path.display()),
            _ => Ok(()),
        }
    }

    /// The grid was saved: of all pictures, or of one prompt's.
    pub(crate) fn grid(self, path: &Path, prompt: Option<&str>) -> Result<(), Failure> {
        match prompt {
            _ if !self.json => print(path.display()),
            None => print(json!({ "event": "grid", "path": path })),
            Some(prompt) => print(json!({ "event": "grid", "path": path, "prompt": prompt })),
        }
    }

    /// The run ended with an error of the server or the connection. Plain output says it on standard error alone.
    pub(crate) fn failed(self, error: &Error) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let fields = error.field_violations().iter();
        let fields: Vec<Value> =
            fields.map(|violation| json!({ "field": violation.field, "message": violation.description })).collect();
        print(json!({
            "event": "failed",
            "code": code_name(error.code()),
            "message": describe(error),
            "fields": fields,
            "retry_seconds": error.retry_after().map(|delay| delay.as_secs_f64()),
        }))
    }
}

/// `None` for an event that this version does not know.
fn object(event: &Event, path: Option<&Path>) -> Option<Value> {
    Some(match event {
        Event::Queued(queued) => json!({
            "event": "queued",
            "position": queued.position,
            "estimated_seconds": queued.estimated.map(|time| time.as_secs_f64()),
        }),
        Event::Started(settings) => json!({
            "event": "started",
            "model": settings.model,
            "width": settings.width,
            "height": settings.height,
            "num_images": settings.num_images,
            "seed": settings.seed,
            "sampler": settings.sampler,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "eta": settings.eta,
            "clip_skip": settings.clip_skip,
            "strength": settings.strength,
            "sigma_spacing": settings.sigma_spacing,
            "rng": match settings.rng {
                Rng::Cpu => "cpu",
                Rng::Cuda => "cuda",
            },
            "prompt_syntax": match settings.prompt_syntax {
                PromptSyntax::Plain => "plain",
                PromptSyntax::Weighted => "weighted",
            },
            "loras": settings
                .loras
                .iter()
                .map(|Lora { name, weight }| json!({ "name": name, "weight": weight }))
                .collect::<Vec<_>>(),
            "hires": settings.hires.map(|Hires { width, height, strength }| {
                json!({ "width": width, "height": height, "strength": strength })
            }),
            "variation": settings.variation.map(|Variation { seed, strength }| json!({ "seed": seed, "strength": strength })),
        }),
        Event::Step(step) => {
            let mut object =
                json!({ "event": "step", "image_index": step.image_index, "step": step.step, "of": step.of });
            if let Some(path) = path {
                object["preview"] = json!(path);
            }
            object
        }
        Event::Image(image) => {
            let media_type = match &image.picture {
                Picture::Encoded { media_type, .. } => media_type,
                Picture::Latents(_) => "application/x-npy",
            };
            json!({
                "event": "image",
                "image_index": image.image_index,
                "seed": image.seed,
                "path": path,
                "media_type": media_type,
                "width": image.width,
                "height": image.height,
                "safety": match image.safety {
                    SafetyVerdict::NotChecked => "not_checked",
                    SafetyVerdict::Passed => "passed",
                    SafetyVerdict::Flagged => "flagged",
                },
                "parameters": image.parameters,
            })
        }
        Event::ImageFailed(failed) => json!({
            "event": "image_failed",
            "image_index": failed.image_index,
            "seed": failed.seed,
            "code": code_name(failed.code),
            "message": failed.message,
        }),
        Event::Completed(completed) => json!({
            "event": "completed",
            "images": completed.images,
            "failed": completed.failed,
            "seconds": {
                "queue": completed.seconds.queue,
                "text_encoder": completed.seconds.text_encoder,
                "denoiser": completed.seconds.denoiser,
                "vae": completed.seconds.vae,
                "total": completed.seconds.total,
            },
            "warnings": completed.warnings.iter()
                .map(|warning| json!({ "field": warning.field, "message": warning.message }))
                .collect::<Vec<_>>(),
        }),
        _ => return None,
    })
}

/// The code as gRPC's specification writes it: `InvalidArgument` is "INVALID_ARGUMENT".
pub(crate) fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// A line, at once: whoever reads a pipe wants it when it happens.
pub(crate) fn print(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| Failure::Failed(anyhow::Error::new(error).context("cannot write to standard output")))
}

#[cfg(test)]
mod tests {
    use darkroom_client::{Failed, Queued, Step};

    use super::*;

    #[test]
    fn events_keep_their_names_and_fields() {
        let queued = Event::Queued(Queued { position: 2, estimated: None });
        assert_eq!(
            object(&queued, None).unwrap(),
            json!({ "event": "queued", "position": 2, "estimated_seconds": null })
        );
        let step = Event::Step(Step { image_index: 0, step: 3, of: 50, preview: None });
        assert_eq!(
            object(&step, Some(Path::new("p.png"))).unwrap(),
            json!({ "event": "step", "image_index": 0, "step": 3, "of": 50, "preview": "p.png" })
        );
        let failed = Failed { image_index: 1, seed: 7, code: Code::DeadlineExceeded, message: "x".into() };
        assert_eq!(object(&Event::ImageFailed(failed), None).unwrap()["code"], "DEADLINE_EXCEEDED");
    }
}
