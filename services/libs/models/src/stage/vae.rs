//! The autoencoder as its service sees it.

use std::sync::Arc;

use super::{Identity, LoadedModel, check_length};
use crate::LoadError;
use crate::compute::candle::Candle;
use crate::compute::cpu::Cpu;
use crate::compute::timed::{Timed, Timings};
use crate::compute::{Backend, ComputeOptions, Device, ModelError, Scope};
use crate::config::VaeConfig;
use crate::source::ModelSource;
use crate::vae::Vae;

/// Bounds of the log-variance, as the reference clamps it.
const LOGVAR: std::ops::RangeInclusive<f32> = -30.0..=20.0;

/// The way between latents and pictures.
pub trait VaeModel: LoadedModel {
    /// Latents as the denoiser leaves them, `[latent_channels, height, width]` → a picture `[3, height · f, width · f]` of
    /// values about −1..1. Divides by the scaling factor.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the length does not fit.
    fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, ModelError>;

    /// A picture `[3, height, width]` of values in −1..1 → what it may be as latents, not multiplied by the scaling factor.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the length does not fit or a side is no multiple of the factor.
    fn encode(&mut self, image: &[f32], height: usize, width: usize) -> Result<Posterior, ModelError>;

    /// Pixels along one side of a latent; 8 in v1.
    fn factor(&self) -> usize;

    /// Channels of the latents; 4 in v1.
    fn latent_channels(&self) -> usize;

    /// What latents are multiplied by after encoding; 0.18215 in v1.
    fn scaling_factor(&self) -> f64;
}

/// A Gaussian with a mean and a deviation of its own for every latent value: `[latent_channels, H / f, W / f]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// The mean: what the reference's `mode()` is.
    pub mean: Vec<f32>,
    /// The standard deviation.
    pub std: Vec<f32>,
}

/// Loads the autoencoder of a model.
///
/// # Errors
/// What does not fit about the device, the configuration or the weights.
pub fn load_vae(source: &ModelSource, options: &ComputeOptions) -> Result<Box<dyn VaeModel>, LoadError> {
    match options.device {
        Device::Cpu => build(Cpu::open(options)?, source, options),
        Device::Cuda(_) | Device::Metal => build(Candle::open(options)?, source, options),
    }
}

/// As [`load_vae`], with the time of each layer group added to `timings`.
///
/// A GPU's operations return before they are done, so there is nothing to time: its model is the plain one.
///
/// # Errors
/// As [`load_vae`].
pub fn load_vae_timed(
    source: &ModelSource,
    options: &ComputeOptions,
    timings: &Arc<Timings>,
) -> Result<Box<dyn VaeModel>, LoadError> {
    match options.device {
        Device::Cpu => build(Timed::new(Cpu::open(options)?, timings), source, options),
        Device::Cuda(_) | Device::Metal => load_vae(source, options),
    }
}

fn build<B: Backend>(
    backend: B,
    source: &ModelSource,
    options: &ComputeOptions,
) -> Result<Box<dyn VaeModel>, LoadError> {
    let (config, weights) = source.vae()?;
    let network = Vae::load(&Scope::root(&backend, &weights), &config)?;
    weights.finish();
    Ok(Box::new(VaeStage { identity: Identity::new(&weights, options), backend, config, network }))
}

struct VaeStage<B: Backend> {
    identity: Identity,
    backend: B,
    config: VaeConfig,
    network: Vae<B>,
}

impl<B: Backend> VaeModel for VaeStage<B> {
    fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, ModelError> {
        let channels = self.config.latent_channels;
        check_length("latents", latents.len(), &[channels, height, width])?;
        let scale = self.config.scaling_factor as f32;
        let unscaled: Vec<f32> = latents.iter().map(|value| value / scale).collect();
        let z = self.backend.upload_image(&unscaled, [1, channels, height, width])?;
        let Self { backend, network, .. } = &*self;
        backend.pass(|| backend.download(&network.decode(backend, &z)?))
    }

    fn encode(&mut self, image: &[f32], height: usize, width: usize) -> Result<Posterior, ModelError> {
        let channels = self.config.in_channels;
        check_length("image", image.len(), &[channels, height, width])?;
        let factor = self.factor();
        if !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            let problem = format!("is {width}x{height}; expected multiples of {factor}");
            return Err(ModelError::input("image", problem));
        }
        let x = self.backend.upload_image(image, [1, channels, height, width])?;
        let Self { backend, network, .. } = &*self;
        let mut mean = backend.pass(|| backend.download(&network.encode(backend, &x)?))?;
        let logvar = mean.split_off(mean.len() / 2);
        let std = logvar.iter().map(|value| (0.5 * value.clamp(*LOGVAR.start(), *LOGVAR.end())).exp()).collect();
        Ok(Posterior { mean, std })
    }

    fn factor(&self) -> usize {
        self.config.factor()
    }

    fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    fn scaling_factor(&self) -> f64 {
        self.config.scaling_factor
    }
}

impl<B: Backend> LoadedModel for VaeStage<B> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn warm(&mut self) -> Result<(), ModelError> {
        const SIDE: usize = 2;
        self.decode(&vec![0.0; self.config.latent_channels * SIDE * SIDE], SIDE, SIDE).map(drop)
    }
}
