//! The timestep's way into the network: sinusoids of its value, then two linear layers; and the guidance scale's, in UNets that were
//! distilled to look at it.

use crate::LoadError;
use crate::compute::{Activation, Backend, Epilogue, ModelError, Scope};
use crate::config::UNetConfig;
use crate::lora::{Adapted, Updates};

/// The longest wavelength is this many times 2π timesteps; Vaswani 2017, arXiv:1706.03762, section 3.5.
const MAX_PERIOD: f64 = 10_000.0;

pub(super) struct TimeEmbedding<B: Backend> {
    width: usize,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    guidance: Option<GuidanceEmbedding<B>>,
    linear_1: Adapted<B::Linear>,
    linear_2: Adapted<B::Linear>,
}

impl<B: Backend> TimeEmbedding<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &UNetConfig) -> Result<Self, LoadError> {
        let scope = scope.enter("time_embedding");
        let (width, embedded) = (config.block_out_channels[0], time_channels(config));
        Ok(Self {
            width,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
            guidance: match config.time_cond_proj_dim {
                Some(channels) => Some(GuidanceEmbedding {
                    width: channels,
                    cond_proj: scope.linear_without_bias("cond_proj", (channels, width))?,
                }),
                None => None,
            },
            linear_1: Adapted::linear(&scope, "linear_1", (width, embedded))?,
            linear_2: Adapted::linear(&scope, "linear_2", (embedded, embedded))?,
        })
    }

    /// Whether [`Self::forward`] looks at guidance scales.
    pub(super) fn embeds_guidance(&self) -> bool {
        self.guidance.is_some()
    }

    /// Timesteps and guidance scales `[rows]` → tokens `[rows, 1, time_channels]`, through the SiLU with which every residual block begins.
    pub(super) fn forward(
        &self,
        backend: &B,
        timesteps: &[f32],
        guidance_scales: &[f32],
        updates: &Updates<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        let sinusoids: Vec<f32> = timesteps
            .iter()
            .flat_map(|timestep| timestep_embedding(*timestep, self.width, self.flip_sin_to_cos, self.freq_shift))
            .collect();
        let x = backend.upload_tokens(&sinusoids, [timesteps.len(), 1, self.width])?;
        let x = match &self.guidance {
            Some(guidance) => guidance.added(backend, guidance_scales, &x)?,
            None => x,
        };
        let x = updates.linear(backend, &self.linear_1, &x, Epilogue::activation(Activation::Silu))?;
        updates.linear(backend, &self.linear_2, &x, Epilogue::activation(Activation::Silu))
    }
}

/// What a distilled UNet makes of the guidance scale.
struct GuidanceEmbedding<B: Backend> {
    width: usize,
    cond_proj: B::Linear,
}

impl<B: Backend> GuidanceEmbedding<B> {
    /// Adds the embeddings of the scales `[rows]` to the timesteps' sinusoids, tokens `[rows, 1, first channels]`.
    fn added(&self, backend: &B, guidance_scales: &[f32], sinusoids: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let embedded: Vec<f32> =
            guidance_scales.iter().flat_map(|scale| guidance_scale_embedding(*scale, self.width)).collect();
        let x = backend.upload_tokens(&embedded, [guidance_scales.len(), 1, self.width])?;
        backend.linear(&self.cond_proj, &x, Epilogue::add(sinusoids))
    }
}

/// Sines, then cosines, of 1000 · (`guidance_scale` − 1) at `width / 2` frequencies from 1 down to 1/10,000:
/// `get_guidance_scale_embedding` of diffusers' `pipeline_latent_consistency_text2img.py`, whose scale is the paper's ω = scale − 1.
#[must_use]
pub fn guidance_scale_embedding(guidance_scale: f32, width: usize) -> Vec<f32> {
    const TIMES: f32 = 1000.0;
    timestep_embedding((guidance_scale - 1.0) * TIMES, width, false, 1.0)
}

/// Width of the time embedding.
pub(super) fn time_channels(config: &UNetConfig) -> usize {
    4 * config.block_out_channels[0]
}

/// Sines and cosines of `timestep` at `width / 2` frequencies falling from 1 to about 1/10,000, the cosines first where
/// `flip_sin_to_cos`; diffusers' `get_timestep_embedding`, whose frequencies and products are f32 too.
#[must_use]
pub fn timestep_embedding(timestep: f32, width: usize, flip_sin_to_cos: bool, freq_shift: f64) -> Vec<f32> {
    let half = width / 2;
    let angles = (0..half).map(|index| {
        let exponent = (-MAX_PERIOD.ln()) as f32 * index as f32 / (half as f64 - freq_shift) as f32;
        f64::from(timestep * exponent.exp())
    });
    let (sines, cosines): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
    if flip_sin_to_cos { [cosines, sines].concat() } else { [sines, cosines].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_and_fastest_waves_are_where_the_paper_puts_them() {
        let embedding = timestep_embedding(250.5, 320, true, 0.0);
        assert_eq!(embedding.len(), 320);
        // Frequency 1 leads each half.
        assert!((embedding[0] - 250.5f32.cos()).abs() < 1e-6);
        assert!((embedding[160] - 250.5f32.sin()).abs() < 1e-6);
        // The last frequency is 10,000^(-159/160).
        let slowest = 250.5 * 10_000f64.powf(-159.0 / 160.0);
        assert!((f64::from(embedding[319]) - slowest.sin()).abs() < 1e-6);
    }

    #[test]
    fn sines_lead_where_the_configuration_says_so() {
        let flipped = timestep_embedding(7.0, 8, true, 1.0);
        let plain = timestep_embedding(7.0, 8, false, 1.0);
        assert_eq!(flipped[..4], plain[4..]);
        assert_eq!(flipped[4..], plain[..4]);
    }
}
