//! The autoencoder between pictures and latents: Kingma 2013, arXiv:1312.6114, as latent diffusion trained it (Rombach 2022,
//! arXiv:2112.10752, appendix G).

mod attention;
mod bands;
mod decoder;
mod encoder;
mod mid;

use std::ops::Range;

use crate::LoadError;
use crate::compute::{Backend, ConvGeometry, Epilogue, ModelError, Scope};
use crate::config::VaeConfig;
use crate::unet::resnet::ResnetShape;
use decoder::Decoder;
use encoder::Encoder;

pub use bands::Division;

/// Epsilon of every group normalisation of the autoencoder.
const NORM_EPS: f64 = 1e-6;

/// The autoencoder.
pub struct Vae<B: Backend> {
    encoder: Encoder<B>,
    quant_conv: B::Conv,
    post_quant_conv: B::Conv,
    decoder: Decoder<B>,
}

impl<B: Backend> Vae<B> {
    /// Packs the weights that `config` asks for.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape.
    pub fn load(scope: &Scope<'_, B>, config: &VaeConfig) -> Result<Self, LoadError> {
        let latents = config.latent_channels;
        let moments = 2 * latents;
        Ok(Self {
            encoder: Encoder::load(&scope.enter("encoder"), config)?,
            quant_conv: scope.conv("quant_conv", (moments, moments), 1, ConvGeometry::same(1))?,
            post_quant_conv: scope.conv("post_quant_conv", (latents, latents), 1, ConvGeometry::same(1))?,
            decoder: Decoder::load(&scope.enter("decoder"), config)?,
        })
    }

    /// A picture `[b, 3, H, W]` in −1..1 → mean and log-variance of its latents, `[b, 2 · latent_channels, H/f, W/f]`.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub fn encode(&self, backend: &B, image: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let moments = self.encoder.forward(backend, image)?;
        backend.conv2d(&self.quant_conv, &moments, Epilogue::none())
    }

    /// Latents `[b, latent_channels, h, w]`, unscaled → a picture `[b, 3, h · f, w · f]`, about −1..1.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub fn decode(&self, backend: &B, latents: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let z = backend.conv2d(&self.post_quant_conv, latents, Epilogue::none())?;
        self.decoder.forward(backend, &z)
    }

    /// As [`Vae::encode`], of one picture of `size` = `(height, width)` in bands: `image` gives its rows, `[1, 3, rows, W]`.
    ///
    /// # Errors
    /// Whatever the backend or `image` reports.
    pub fn encode_in_bands(
        &self,
        backend: &B,
        size: (usize, usize),
        division: Division,
        image: impl FnMut(Range<usize>) -> Result<B::Tensor, ModelError>,
    ) -> Result<B::Tensor, ModelError> {
        let moments = self.encoder.forward_in_bands(backend, size, division, image)?;
        backend.conv2d(&self.quant_conv, &moments, Epilogue::none())
    }

    /// As [`Vae::decode`], of one picture in bands: `put` gets its rows, `[1, 3, rows, W]`, from the top down.
    ///
    /// # Errors
    /// Whatever the backend or `put` reports.
    pub fn decode_in_bands(
        &self,
        backend: &B,
        latents: &B::Tensor,
        division: Division,
        put: impl FnMut(Range<usize>, B::Tensor) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let z = backend.conv2d(&self.post_quant_conv, latents, Epilogue::none())?;
        self.decoder.forward_in_bands(backend, &z, division, put)
    }
}

/// A residual block of the autoencoder: no time, and everywhere the same epsilon.
fn resnet_shape(config: &VaeConfig, inputs: usize, outputs: usize) -> ResnetShape {
    ResnetShape { inputs, outputs, time: None, groups: config.norm_num_groups, eps: NORM_EPS, coarse: false }
}
