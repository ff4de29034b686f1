//! The autoencoder as its service sees it.

use std::ops::Range;
use std::sync::Arc;

use super::{Identity, LoadedModel, check_length};
use crate::LoadError;
use crate::compute::candle::Candle;
use crate::compute::cpu::Cpu;
use crate::compute::timed::{Timed, Timings};
use crate::compute::{Backend, ComputeOptions, Device, ModelError, Scope};
use crate::config::VaeConfig;
use crate::source::ModelSource;
use crate::vae::{Division, Vae};

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

    /// Changes from [`Division::default`] when and how pictures are divided: how much memory they take, and nothing of what comes out but
    /// a GPU's last digits.
    fn divide(&mut self, division: Division);

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
    let (identity, division) = (Identity::new(&weights, options), Division::default());
    Ok(Box::new(VaeStage { identity, backend, config, network, division }))
}

struct VaeStage<B: Backend> {
    identity: Identity,
    backend: B,
    config: VaeConfig,
    network: Vae<B>,
    division: Division,
}

impl<B: Backend> VaeModel for VaeStage<B> {
    fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<f32>, ModelError> {
        let channels = self.config.latent_channels;
        check_length("latents", latents.len(), &[channels, height, width])?;
        let scale = self.config.scaling_factor as f32;
        let unscaled: Vec<f32> = latents.iter().map(|value| value / scale).collect();
        let z = self.backend.upload_image(&unscaled, [1, channels, height, width])?;
        let Self { backend, network, division, config, .. } = &*self;
        let (height, width) = (height * config.factor(), width * config.factor());
        if !division.divides(height, width) {
            return backend.pass(|| backend.download(&network.decode(backend, &z)?));
        }
        let mut picture = vec![0.0; config.out_channels * height * width];
        backend.pass(|| {
            network.decode_in_bands(backend, &z, *division, |rows, band| {
                let inside = rows.start * width..rows.end * width;
                let band = backend.download(&band)?;
                for (plane, band) in picture.chunks_exact_mut(height * width).zip(band.chunks_exact(inside.len())) {
                    plane[inside.clone()].copy_from_slice(band);
                }
                Ok(())
            })
        })?;
        Ok(picture)
    }

    fn encode(&mut self, image: &[f32], height: usize, width: usize) -> Result<Posterior, ModelError> {
        let channels = self.config.in_channels;
        check_length("image", image.len(), &[channels, height, width])?;
        let factor = self.factor();
        if !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            let problem = format!("is {width}x{height}; expected multiples of {factor}");
            return Err(ModelError::input("image", problem));
        }
        let Self { backend, network, division, .. } = &*self;
        let mut mean = if division.divides(height, width) {
            let rows_of = |rows: Range<usize>| {
                let inside = rows.start * width..rows.end * width;
                let planes = image.chunks_exact(height * width).flat_map(|plane| &plane[inside.clone()]);
                let values: Vec<f32> = planes.copied().collect();
                backend.upload_image(&values, [1, channels, rows.len(), width])
            };
            let encode = || network.encode_in_bands(backend, (height, width), *division, rows_of);
            backend.pass(|| backend.download(&encode()?))?
        } else {
            let x = backend.upload_image(image, [1, channels, height, width])?;
            backend.pass(|| backend.download(&network.encode(backend, &x)?))?
        };
        let logvar = mean.split_off(mean.len() / 2);
        let std = logvar.iter().map(|value| (0.5 * value.clamp(*LOGVAR.start(), *LOGVAR.end())).exp()).collect();
        Ok(Posterior { mean, std })
    }

    fn divide(&mut self, division: Division) {
        self.division = division;
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
