//! What the clock's stages say of themselves: the shapes of the embedded model, unless told otherwise.

use darkroom_engine::{Budget, LatentSize};
use darkroom_proto::v1;
use darkroom_samplers::{Cost, Plan, Sampler};

use super::pace::Pace;

/// Rows of a guided picture.
pub(in crate::load) const GUIDED: usize = 2;

/// The shapes and limits of a clock's model.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What an evaluation takes.
    pub pace: Pace,
    /// Guided pictures of the default size that run at once.
    pub batch: u32,
    /// Calls that may wait at each worker.
    pub queue_limit: u32,
    /// Seconds of a call to a text encoder.
    pub text_seconds: f64,
    /// Seconds of a call to a VAE.
    pub vae_seconds: f64,
    /// Latents say what the clock counted, so that it can be taken off what a client measured. Then they are the same for equal requests
    /// no more.
    pub tell_spent: bool,
}

impl Facts {
    /// Positions of the text tower.
    pub const TOKENS: usize = 77;
    /// Width of an embedding.
    pub const WIDTH: usize = 96;
    /// Of the latents.
    pub const CHANNELS: usize = 4;
    /// Pixels a latent.
    pub const FACTOR: usize = 8;
    /// Of the default picture, in latents.
    pub const SIZE: LatentSize = LatentSize { height: 16, width: 16 };
    /// Largest side of latents.
    pub const MAX_LATENT_SIDE: u32 = 256;

    /// What runs at once.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let pixels = self.batch as usize * GUIDED * Self::SIZE.pixels();
        Budget { pixels, bytes: usize::MAX, pictures: usize::MAX }
    }

    fn stage(&self) -> Option<v1::StageInfo> {
        Some(v1::StageInfo {
            model: "clock".into(),
            revision: "c10c".repeat(16),
            precision: "f32".into(),
            device: "clock".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            queue_limit: self.queue_limit,
        })
    }

    pub(super) fn text_encoder(&self) -> v1::TextEncoderInfo {
        v1::TextEncoderInfo {
            stage: self.stage(),
            hidden_size: Self::WIDTH as u32,
            max_tokens: Self::TOKENS as u32,
            num_layers: 3,
            max_windows: 1,
            textual_inversions: Vec::new(),
            loras: Vec::new(),
        }
    }

    pub(super) fn vae(&self) -> v1::VaeInfo {
        v1::VaeInfo {
            stage: self.stage(),
            latent_channels: Self::CHANNELS as u32,
            factor: Self::FACTOR as u32,
            scaling_factor: 0.18215,
            max_side: Self::MAX_LATENT_SIDE * Self::FACTOR as u32,
            watermark: false,
            safety_policy: v1::SafetyPolicy::Off.into(),
            safety_revision: String::new(),
        }
    }

    pub(super) fn denoiser(&self) -> v1::DenoiserInfo {
        let side = |latents: usize| (latents * Self::FACTOR) as u32;
        v1::DenoiserInfo {
            inpainting: false,
            embedded_guidance: false,
            loras: Vec::new(),
            stage: self.stage(),
            latent_channels: Self::CHANNELS as u32,
            cross_attention_dim: Self::WIDTH as u32,
            samplers: Sampler::ALL.iter().map(ToString::to_string).collect(),
            defaults: Some(v1::GenerationDefaults {
                width: side(Self::SIZE.width),
                height: side(Self::SIZE.height),
                guidance_scale: 2.0,
                num_inference_steps: 50,
                sampler: Sampler::Plms.to_string(),
            }),
            max_latent_side: Self::MAX_LATENT_SIDE,
            latent_multiple: 1,
            max_batch: self.batch,
            plan_version: Plan::VERSION,
            batch_pixels: self.budget().pixels as u64,
            sampler_costs: Sampler::ALL.iter().map(cost).collect(),
        }
    }

    /// Seconds of an evaluation for one guided picture of the default size, and for a full batch of them.
    pub(in crate::load) fn evaluation_seconds(&self) -> (f64, f64) {
        (self.pace.seconds(GUIDED * Self::SIZE.pixels()), self.pace.seconds(self.budget().pixels))
    }
}

fn cost(sampler: &Sampler) -> v1::SamplerCost {
    let Cost { evaluations_per_step, extra_evaluations } = sampler.cost();
    v1::SamplerCost { sampler: sampler.to_string(), evaluations_per_step, extra_evaluations, ..Default::default() }
}
