//! What a request takes that says nothing else: the model's own settings, else the reference script's.

use std::str::FromStr;

use darkroom_samplers::Sampler;

use super::Fields;
use crate::error::LoadError;

/// A model's defaults for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Scale of classifier-free guidance.
    pub guidance_scale: f64,
    /// Steps of the sampler.
    pub num_inference_steps: usize,
    /// The sampler.
    pub sampler: Sampler,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

impl Defaults {
    /// The reference script's: guidance 7.5, 50 steps of PLMS, a square of the size that the model was trained on.
    #[must_use]
    pub fn reference(size: usize) -> Self {
        Self { guidance_scale: 7.5, num_inference_steps: 50, sampler: Sampler::Plms, width: size, height: size }
    }

    /// Reads `defaults.json`; what it does not say is the reference's. `factor` is the autoencoder's.
    pub(crate) fn from_json(file: &str, bytes: &[u8], size: usize, factor: usize) -> Result<Self, LoadError> {
        let fields = Fields::parse(file, bytes)?;
        let reference = Self::reference(size);
        let known = ["guidance_scale", "num_inference_steps", "sampler", "width", "height"];
        if let Some(unknown) = fields.names().find(|name| !known.contains(name)) {
            return Err(fields.wrong(unknown, format!("one of the fields {}", known.join(", "))));
        }
        let sampler = match fields.text("sampler")? {
            Some(name) => Sampler::from_str(name).map_err(|error| fields.wrong("sampler", error))?,
            None => reference.sampler,
        };
        let side = |field, default| {
            let pixels = fields.count(field, Some(default), 64..=2048)?;
            if pixels.is_multiple_of(factor) {
                Ok(pixels)
            } else {
                Err(fields.wrong(field, format!("a multiple of {factor}")))
            }
        };
        Ok(Self {
            guidance_scale: fields.number("guidance_scale", reference.guidance_scale, 0.0..=1000.0)?,
            num_inference_steps: fields.count("num_inference_steps", Some(reference.num_inference_steps), 1..=1000)?,
            sampler,
            width: side("width", reference.width)?,
            height: side("height", reference.height)?,
        })
    }
}
