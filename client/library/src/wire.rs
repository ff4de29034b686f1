//! From the contract's messages to this library's types; generated types stop here.

use std::time::Duration;

use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1;
use tonic::Code;

use crate::Error;
use crate::event::{
    Completed, Event, Failed, Hires, Image, Latents, Lora, Picture, Preview, Queued, SafetyVerdict, Settings,
    StageSeconds, Step, Variation, Warning,
};
use crate::request::{PromptSyntax, Rng};
use crate::server::{Defaults, DenoiserLoad, Model, ServerInfo, StageWorker, Totals};

/// `None`: an event of a newer contract, which an older client passes over.
pub(crate) fn event(message: v1::GenerateEvent) -> Option<Result<Event, Error>> {
    use v1::generate_event::Event as Message;
    Some(match message.event? {
        Message::Queued(queued) => Ok(Event::Queued(queued.into())),
        Message::Started(started) => Ok(Event::Started(started.into())),
        Message::Step(step) => Ok(Event::Step(step.into())),
        Message::Image(image) => Image::try_from(image).map(Event::Image),
        Message::ImageFailed(failed) => Ok(Event::ImageFailed(failed.into())),
        Message::Completed(completed) => Ok(Event::Completed(completed.into())),
    })
}

impl From<v1::Queued> for Queued {
    fn from(message: v1::Queued) -> Self {
        let estimated = Duration::try_from_secs_f64(message.estimated_seconds).ok().filter(|time| !time.is_zero());
        Self { position: message.position, estimated }
    }
}

impl From<v1::Started> for Settings {
    fn from(message: v1::Started) -> Self {
        Self {
            prompt_syntax: match message.prompt_syntax() {
                v1::PromptSyntax::Weighted => PromptSyntax::Weighted,
                v1::PromptSyntax::Plain | v1::PromptSyntax::Unspecified => PromptSyntax::Plain,
            },
            loras: message
                .loras
                .into_iter()
                .map(|v1::Lora { name, weight }| Lora { name, weight: weight.unwrap_or(1.0) })
                .collect(),
            model: message.model,
            width: message.width,
            height: message.height,
            num_images: message.num_images,
            seed: message.seed,
            sampler: message.sampler,
            num_inference_steps: message.num_inference_steps,
            guidance_scale: message.guidance_scale,
            eta: message.eta,
            clip_skip: message.clip_skip,
            strength: message.strength,
            sigma_spacing: message.sigma_spacing,
            rng: if message.rng == i32::from(v1::Rng::Cuda) { Rng::Cuda } else { Rng::Cpu },
            hires: message.hires.map(|v1::Hires { width, height, strength }| Hires {
                width,
                height,
                strength: strength.unwrap_or_default(),
            }),
            variation: message.variation.map(|v1::Variation { seed, strength }| Variation { seed, strength }),
        }
    }
}

impl From<v1::Step> for Step {
    fn from(message: v1::Step) -> Self {
        let preview = message.preview.map(|preview| Preview {
            data: preview.data,
            media_type: preview.media_type,
            width: preview.width,
            height: preview.height,
        });
        Self { image_index: message.image_index, step: message.step, of: message.of, preview }
    }
}

impl TryFrom<v1::Image> for Image {
    type Error = Error;

    fn try_from(message: v1::Image) -> Result<Self, Error> {
        let safety = match message.safety() {
            v1::SafetyVerdict::NotChecked => SafetyVerdict::NotChecked,
            v1::SafetyVerdict::Passed => SafetyVerdict::Passed,
            v1::SafetyVerdict::Flagged => SafetyVerdict::Flagged,
        };
        let picture = match message.latents {
            Some(latents) => Picture::Latents(Latents::try_from(latents)?),
            None => Picture::Encoded { data: message.data, media_type: message.media_type },
        };
        Ok(Self {
            image_index: message.image_index,
            seed: message.seed,
            width: message.width,
            height: message.height,
            safety,
            parameters: message.parameters,
            picture,
        })
    }
}

impl TryFrom<v1::Tensor> for Latents {
    type Error = Error;

    fn try_from(message: v1::Tensor) -> Result<Self, Error> {
        let broken = |reason: String| Error::Contract(reason);
        let view = TensorView::new(&message, "latents").map_err(|error| broken(error.to_string()))?;
        let &[channels, height, width] = view.shape() else {
            return Err(broken(format!("latents have the shape {:?}, not [channels, height, width]", view.shape())));
        };
        let values = view.to_f32().map_err(|error| broken(error.to_string()))?;
        Ok(Self { shape: [channels, height, width], values })
    }
}

impl From<v1::ImageFailed> for Failed {
    fn from(message: v1::ImageFailed) -> Self {
        let code = Code::from(message.code);
        Self { image_index: message.image_index, seed: message.seed, code, message: message.message }
    }
}

impl From<v1::Completed> for Completed {
    fn from(message: v1::Completed) -> Self {
        let seconds = message.seconds.unwrap_or_default();
        let seconds = StageSeconds {
            queue: seconds.queue,
            text_encoder: seconds.text_encoder,
            denoiser: seconds.denoiser,
            vae: seconds.vae,
            total: seconds.total,
        };
        let warnings = message.warnings.into_iter();
        let warnings = warnings.map(|warning| Warning { field: warning.field, message: warning.message }).collect();
        Self { seconds, warnings, images: message.images, failed: message.failed }
    }
}

impl From<v1::Model> for Model {
    fn from(message: v1::Model) -> Self {
        Self {
            name: message.name,
            defaults: message.defaults.map(Defaults::from).unwrap_or_default(),
            samplers: message.samplers,
            min_side: message.min_side,
            max_side: message.max_side,
            side_multiple: message.side_multiple,
            max_images: message.max_images,
            max_clip_skip: message.max_clip_skip,
            max_prompt_tokens: message.max_prompt_tokens,
            inpainting: message.inpainting,
            embedded_guidance: message.embedded_guidance,
            textual_inversions: message.textual_inversions,
            loras: message.loras,
            problem: message.problem,
        }
    }
}

impl From<v1::GenerationDefaults> for Defaults {
    fn from(message: v1::GenerationDefaults) -> Self {
        Self {
            width: message.width,
            height: message.height,
            guidance_scale: message.guidance_scale,
            num_inference_steps: message.num_inference_steps,
            sampler: message.sampler,
        }
    }
}

impl From<v1::GetServerInfoResponse> for ServerInfo {
    fn from(message: v1::GetServerInfoResponse) -> Self {
        Self {
            version: message.version,
            ready: message.ready,
            problem: message.problem,
            uptime: seconds(message.uptime_seconds),
            queue_depth: message.queue_depth,
            queue_limit: message.queue_limit,
            running_requests: message.running_requests,
            queued_work_seconds: message.queued_work_seconds,
            totals: Totals {
                admitted_requests: message.admitted_requests_total,
                refused_requests: message.refused_requests_total,
                images: message.images_total,
                failed_images: message.failed_images_total,
                steps: message.steps_total,
            },
            workers: message.workers.into_iter().map(StageWorker::from).collect(),
        }
    }
}

impl From<v1::StageWorker> for StageWorker {
    fn from(message: v1::StageWorker) -> Self {
        Self {
            stage: message.stage,
            address: message.address,
            ready: message.ready,
            state: message.state,
            model: message.model,
            revision: message.revision,
            precision: message.precision,
            device: message.device,
            version: message.version,
            problem: message.problem,
            served_model: message.served_model,
            seen: message.seen_seconds_ago.map(seconds),
            calls: message.calls,
            load: message.load.map(DenoiserLoad::from),
        }
    }
}

impl From<v1::DenoiserLoad> for DenoiserLoad {
    fn from(message: v1::DenoiserLoad) -> Self {
        Self {
            running: message.running,
            waiting: message.waiting,
            remaining_evaluations: message.remaining_evaluations,
            remaining_seconds: message.remaining_seconds,
            step_seconds: message.step_seconds,
            running_pixels: message.running_pixels,
            batch_pixels: message.batch_pixels,
        }
    }
}

/// What is no time counts as none.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}
