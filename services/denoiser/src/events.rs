//! From the engine's events to messages.

use darkroom_engine::{Event, LatentSize};
use darkroom_models::source::LatentRgb;
use darkroom_proto::v1::{
    DenoiseAccepted, DenoiseDraining, DenoiseEvent, DenoiseFinished, DenoiseStep, Tensor, denoise_event::Event as Kind,
};
use darkroom_stage_kit::refusal;
use tonic::Status;

use crate::metrics::DenoiserMetrics;
use crate::{STAGE, checkpoint};

/// What one request's events need to become messages.
pub(crate) struct Messages {
    pub(crate) size: LatentSize,
    pub(crate) channels: usize,
    pub(crate) latent_rgb: LatentRgb,
    /// As the request numbers it; every message carries it.
    pub(crate) attempt: u32,
}

impl Messages {
    /// The first message.
    pub(crate) fn accepted(&self, evaluations: usize) -> DenoiseEvent {
        self.message(Kind::Accepted(DenoiseAccepted { evaluations: count(evaluations) }))
    }

    /// All further ones.
    pub(crate) fn of(&self, event: Event, metrics: &DenoiserMetrics) -> Result<DenoiseEvent, Status> {
        let sent = |tensor| metrics.stage.sent(tensor);
        let LatentSize { height, width } = self.size;
        let shape = [self.channels, height, width];
        let kind = match event {
            Event::Step(step) => {
                let preview = step.predicted_original.map(|latents| sent(self.preview(&latents)));
                Kind::Step(DenoiseStep { step: count(step.step), of: count(step.of), preview })
            }
            Event::Checkpoint(checkpoint) => {
                metrics.checkpoint_sent(checkpoint.bytes());
                Kind::Checkpoint(checkpoint::message(&checkpoint, shape))
            }
            Event::Draining => Kind::Draining(DenoiseDraining {}),
            Event::End(Ok(finished)) => Kind::Finished(DenoiseFinished {
                latents: Some(sent(Tensor::from_f32(&shape, &finished.latents))),
                seconds: finished.computed.as_secs_f64(),
                queue_seconds: finished.queued.as_secs_f64(),
            }),
            Event::End(Err(error)) => return Err(refusal::failed(STAGE, &error)),
        };
        Ok(self.message(kind))
    }

    fn message(&self, kind: Kind) -> DenoiseEvent {
        DenoiseEvent { event: Some(kind), attempt: self.attempt }
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
