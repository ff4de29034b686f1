//! What a service sees of a model: slices in, slices out, errors as values.
//!
//! Object-safe traits, one a stage and one for what looks at pictures, and the functions that load them. No tensor type, backend or configuration passes
//! through here, so a service is the same whatever computes. A model is owned by one thread, which calls it with `&mut`.

mod adapters;
mod context;
mod safety;
#[cfg(test)]
mod tests;
mod text_encoder;
mod texts;
mod unet;
mod vae;

use crate::lora::Loras;
use crate::weights::{Weights, revision_with};

pub use crate::compute::timed::{LayerGroup, Timings};
pub use crate::compute::{ComputeOptions, Device, ModelError, Precision};
pub use crate::vae::Division;
pub use context::Context;
pub use safety::{SafetyModel, SafetyScores, load_safety_checker};
pub use text_encoder::{TextEncoderModel, load_text_encoder, load_text_encoder_timed, load_text_encoder_with};
pub use texts::TextMemory;
pub use unet::{UnetModel, UnetRow, load_unet, load_unet_timed, load_unet_with};
pub use vae::{Posterior, VaeModel, load_vae, load_vae_timed};

/// What is common to the models of all stages.
pub trait LoadedModel: Send {
    /// Which model it is, and how it computes.
    fn identity(&self) -> &Identity;

    /// Runs one small forward pass, so that the first request does not pay for what is set up on first use.
    ///
    /// # Errors
    /// As the model's own methods.
    fn warm(&mut self) -> Result<(), ModelError>;
}

/// Which model is loaded, and how it computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A hash of weights and configuration, the same for the same model in any file layout.
    pub revision: String,
    /// Never [`Precision::Auto`].
    pub precision: Precision,
    /// Where it computes.
    pub device: Device,
}

impl Identity {
    fn new(weights: &Weights, options: &ComputeOptions) -> Self {
        Self { revision: weights.revision(), precision: options.precision.on(options.device), device: options.device }
    }

    /// Of a model with adapters, which its revision covers.
    fn with_loras(mut self, loras: &Loras) -> Self {
        if !loras.is_empty() {
            self.revision = self.revision_with(&loras.digest());
        }
        self
    }

    /// The revision of this model together with `settings` that decide what becomes of its results.
    #[must_use]
    pub fn revision_with(&self, settings: &str) -> String {
        revision_with(&self.revision, settings)
    }
}

/// Checks the length of a row-major array.
fn check_length(field: &'static str, found: usize, shape: &[usize]) -> Result<(), ModelError> {
    let expected = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
    match expected {
        Some(0) => Err(ModelError::input(field, format!("has the empty shape {shape:?}"))),
        Some(expected) if expected == found => Ok(()),
        _ => Err(ModelError::input(field, format!("has {found} values; its shape {shape:?} needs another number"))),
    }
}
