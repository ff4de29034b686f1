//! A linear map from latents to colours: previews that cost nothing.

use serde_json::Value;

use crate::config::Fields;
use crate::error::LoadError;

/// `rgb = bias + Σ latents[channel] · weights[channel]`, for each latent pixel by itself.
///
/// Latents are as the UNet sees them, multiplied by the autoencoder's scaling factor; colours run from -1 (black) to 1, like
/// the decoder's output. A preview has one pixel a latent: an eighth of the picture's sides.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentRgb {
    /// For each latent channel its share of red, green and blue.
    pub weights: Vec<[f32; 3]>,
    /// Red, green and blue of all-zero latents.
    pub bias: [f32; 3],
}

/// Colours are linear in latents of moderate size; larger factors are a mistake.
const LARGEST: f64 = 100.0;

impl LatentRgb {
    /// Stable Diffusion v1.4's factors, found by Kevin Turner (keturn) by regression in "Decoding latents to RGB without
    /// upscaling", discuss.huggingface.co/t/23204, second post.
    #[must_use]
    pub fn stable_diffusion_v1() -> Self {
        let weights =
            vec![[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473]];
        Self { weights, bias: [0.0; 3] }
    }

    /// For a model that says nothing of its own: v1's where the channels are v1's, else the mean of all channels as gray.
    pub(crate) fn assumed(latent_channels: usize) -> Self {
        if latent_channels == 4 {
            return Self::stable_diffusion_v1();
        }
        let share = 1.0 / latent_channels as f32;
        Self { weights: vec![[share; 3]; latent_channels], bias: [0.0; 3] }
    }

    /// Reads `latent_rgb.json`: `{"weights": [[r, g, b] for each channel], "bias": [r, g, b]}`.
    pub(crate) fn from_json(file: &str, bytes: &[u8], latent_channels: usize) -> Result<Self, LoadError> {
        let fields = Fields::parse(file, bytes)?;
        let weights = fields.get("weights").and_then(Value::as_array).filter(|list| list.len() == latent_channels);
        let weights = weights.and_then(|list| list.iter().map(colour).collect::<Option<Vec<_>>>());
        let weights =
            weights.ok_or_else(|| fields.wrong("weights", format!("{latent_channels} lists of three numbers")))?;
        let bias = match fields.get("bias") {
            Some(value) => colour(value).ok_or_else(|| fields.wrong("bias", "three numbers"))?,
            None => [0.0; 3],
        };
        Ok(Self { weights, bias })
    }
}

fn colour(value: &Value) -> Option<[f32; 3]> {
    let number = |value: &Value| value.as_f64().filter(|number| number.abs() <= LARGEST).map(|number| number as f32);
    match value.as_array()?.as_slice() {
        [red, green, blue] => Some([number(red)?, number(green)?, number(blue)?]),
        _ => None,
    }
}
