//! Doors for the fuzz targets of `tests/fuzz`: what becomes of a message before any model sees it.

use darkroom_engine::{Checkpoint, DenoiseRequest, LatentSize};
use darkroom_models::config::Defaults;
use darkroom_models::source::LatentRgb;
use darkroom_proto::v1;
use darkroom_samplers::{NoiseSchedule, ScheduleConfig, ScheduleError};
use tonic::Status;

use crate::stage::DenoiserFacts;
use crate::{checkpoint, request};

/// What a denoiser knows of a model, without the model.
pub struct Facts(DenoiserFacts);

impl Facts {
    /// With the reference's schedule, Stable Diffusion v1's channels and embeddings of this width.
    pub fn new(cross_attention_dim: usize) -> Result<Self, ScheduleError> {
        Ok(Self(DenoiserFacts {
            info: v1::StageInfo::default(),
            latent_channels: 4,
            inpainting: false,
            embeds_guidance: false,
            cross_attention_dim,
            schedule: NoiseSchedule::new(&ScheduleConfig::default())?,
            defaults: Defaults::reference(512),
            latent_rgb: LatentRgb::stable_diffusion_v1(),
            loras: vec![v1::LoraFile { name: "flat".into(), digest: String::new() }],
            latents: LatentSize { height: 64, width: 64 },
            max_batch: 1,
            batch_pixels: 2 * 64 * 64,
        }))
    }

    /// The engine's request of a message.
    pub fn checked(&self, max_latent_side: u32, message: &v1::DenoiseRequest) -> Result<DenoiseRequest, Status> {
        request::checked(&self.0, max_latent_side, message)
    }
}

/// The message of a checkpoint.
pub fn message(checkpoint: &Checkpoint, shape: [usize; 3]) -> v1::Checkpoint {
    checkpoint::message(checkpoint, shape)
}
