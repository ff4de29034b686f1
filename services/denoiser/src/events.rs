//! From the engine's events to messages.

use darkroom_engine::{Event, Finished, LatentSize, RunError, Step};
use darkroom_models::source::LatentRgb;
use darkroom_proto::v1::{
    DenoiseAccepted, DenoiseEvent, DenoiseFinished, DenoiseStep, Tensor, denoise_event::Event as Kind,
};
use darkroom_stage_kit::refusal;
use tonic::Status;

use crate::STAGE;

/// What one request's events need to become messages.
pub(crate) struct Messages {
    pub(crate) size: LatentSize,
    pub(crate) channels: usize,
    pub(crate) latent_rgb: LatentRgb,
}

impl Messages {
    /// The first message.
    pub(crate) fn accepted(evaluations: usize) -> DenoiseEvent {
        message(Kind::Accepted(DenoiseAccepted { evaluations: count(evaluations) }))
    }

    /// All further ones. `sent` sees each tensor that leaves.
    pub(crate) fn message(
        &self,
        event: Event<Step, Finished>,
        sent: impl Fn(Tensor) -> Tensor,
    ) -> Result<DenoiseEvent, Status> {
        match event {
            Event::Progress(step) => {
                let preview = step.predicted_original.map(|latents| sent(self.preview(&latents)));
                Ok(message(Kind::Step(DenoiseStep { step: count(step.step), of: count(step.of), preview })))
            }
            Event::End(Ok(finished)) => {
                let LatentSize { height, width } = self.size;
                Ok(message(Kind::Finished(DenoiseFinished {
                    latents: Some(sent(Tensor::from_f32(&[self.channels, height, width], &finished.latents))),
                    seconds: finished.computed.as_secs_f64(),
                    queue_seconds: finished.queued.as_secs_f64(),
                })))
            }
            Event::End(Err(error)) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &RunError) -> Status {
        refusal::failed(STAGE, error)
    }

    /// One pixel a latent.
    fn preview(&self, latents: &[f32]) -> Tensor {
        let LatentSize { height, width } = self.size;
        Tensor::from_u8(&[height, width, 3], rgb(&self.latent_rgb, latents, height * width))
    }
}

/// Colours −1 to 1 become bytes as finished pictures' do.
fn rgb(map: &LatentRgb, latents: &[f32], pixels: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pixels * 3);
    for pixel in 0..pixels {
        for colour in 0..3 {
            let channels = latents[pixel..].iter().step_by(pixels).zip(&map.weights);
            let value = map.bias[colour] + channels.map(|(latent, weights)| latent * weights[colour]).sum::<f32>();
            bytes.push((255.0 * (value / 2.0 + 0.5).clamp(0.0, 1.0)).round_ties_even() as u8);
        }
    }
    bytes
}

fn message(kind: Kind) -> DenoiseEvent {
    DenoiseEvent { event: Some(kind), ..Default::default() }
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_maps_each_latent_pixel_by_itself() {
        let map = LatentRgb { weights: vec![[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]], bias: [0.0, -1.0, 0.0] };
        // Channel 0 of the two pixels, then channel 1.
        let latents = [1.0, -0.5, 0.5, 1.0];
        assert_eq!(rgb(&map, &latents, 2), [255, 128, 64, 64, 255, 0]);
    }
}
