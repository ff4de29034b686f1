//! The UNet as the denoiser sees it.

use std::sync::Arc;

use super::adapters::{self, Adapters, Packed};
use super::context::Context;
use super::texts::{TextMemory, Texts};
use super::{Identity, LoadedModel, check_length};
use crate::LoadError;
use crate::compute::candle::Candle;
use crate::compute::cpu::Cpu;
use crate::compute::timed::{Timed, Timings};
use crate::compute::{Backend, ComputeOptions, Device, ModelError, Scope};
use crate::config::UNetConfig;
use crate::lora::{LoraUse, Loras, Network, Set};
use crate::source::ModelSource;
use crate::unet::{TextContext, Unet};

/// The network that predicts the noise in latents.
pub trait UnetModel: LoadedModel {
    /// Prepares a text: `prompt_embeds` is `[tokens, cross_attention_dim]`, row-major. Equal texts in use are one.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the length does not fit.
    fn context(&mut self, prompt_embeds: &[f32], tokens: usize) -> Result<Context, ModelError> {
        self.context_with(prompt_embeds, tokens, &[])
    }

    /// As [`UnetModel::context`], for a request that uses adapters: the text is prepared with them, and so are the rows that have it.
    ///
    /// # Errors
    /// [`ModelError::Input`] for one that is not loaded, too.
    fn context_with(&mut self, prompt_embeds: &[f32], tokens: usize, loras: &[LoraUse]) -> Result<Context, ModelError>;

    /// Memory that adapters take while requests use them, at most.
    fn adapter_bytes(&self, loras: &[LoraUse]) -> usize;

    /// Latents of `height` × `width` → `noise_pred` of each row, `[latent_channels, height, width]`, row-major. Rows have timesteps
    /// and texts of their own.
    ///
    /// # Errors
    /// [`ModelError::Input`] for latents of another length, a timestep that is not finite, or another model's context.
    fn predict(&mut self, rows: &[UnetRow<'_>], height: usize, width: usize) -> Result<Vec<Vec<f32>>, ModelError>;

    /// What the texts in use take.
    fn text_memory(&self) -> TextMemory;

    /// Channels that it reads: those of the latents, and of an inpainting UNet the mask's and the masked picture's behind them.
    fn in_channels(&self) -> usize;

    /// Whether it was distilled to look at the guidance scale, so that a row has one and there is no unconditional half.
    fn embeds_guidance(&self) -> bool;

    /// Channels of the latents; 4 in v1.
    fn latent_channels(&self) -> usize;

    /// Width of a text embedding; 768 in v1.
    fn cross_attention_dim(&self) -> usize;
}

/// One picture's part of a batch.
#[derive(Clone, Copy)]
pub struct UnetRow<'a> {
    /// `[in_channels, height, width]`, row-major.
    pub latents: &'a [f32],
    /// On the scale of the training steps, 0 to 999 in v1; may lie between two of them.
    pub timestep: f32,
    /// The text and the adapters, prepared by the same model.
    pub context: &'a Context,
    /// What a UNet is told that [embeds it](UnetModel::embeds_guidance); others are not.
    pub guidance_scale: Option<f32>,
}

/// Loads the UNet of a model.
///
/// # Errors
/// What does not fit about the device, the configuration or the weights.
pub fn load_unet(source: &ModelSource, options: &ComputeOptions) -> Result<Box<dyn UnetModel>, LoadError> {
    load_unet_with(source, options, &Loras::default())
}

/// As [`load_unet`], with adapters that requests may name. Its revision covers them.
///
/// # Errors
/// As [`load_unet`].
pub fn load_unet_with(
    source: &ModelSource,
    options: &ComputeOptions,
    loras: &Loras,
) -> Result<Box<dyn UnetModel>, LoadError> {
    match options.device {
        Device::Cpu => build(Cpu::open(options)?, source, options, loras),
        Device::Cuda(_) | Device::Metal => build(Candle::open(options)?, source, options, loras),
    }
}

/// As [`load_unet`], with the time of each layer group added to `timings`.
///
/// A GPU's operations return before they are done, so there is nothing to time: its model is the plain one.
///
/// # Errors
/// As [`load_unet`].
pub fn load_unet_timed(
    source: &ModelSource,
    options: &ComputeOptions,
    timings: &Arc<Timings>,
) -> Result<Box<dyn UnetModel>, LoadError> {
    match options.device {
        Device::Cpu => build(Timed::new(Cpu::open(options)?, timings), source, options, &Loras::default()),
        Device::Cuda(_) | Device::Metal => load_unet(source, options),
    }
}

fn build<B: Backend>(
    backend: B,
    source: &ModelSource,
    options: &ComputeOptions,
    loras: &Loras,
) -> Result<Box<dyn UnetModel>, LoadError> {
    let (config, weights) = source.unet()?;
    let network = Unet::load(&Scope::root(&backend, &weights), &config)?;
    weights.finish();
    let identity = Identity::new(&weights, options).with_loras(loras);
    let texts = Texts::new();
    let adapters = Adapters::new(Network::Unet, loras.clone(), texts.memory());
    Ok(Box::new(UnetStage { identity, texts, adapters, backend, config, network }))
}

struct UnetStage<B: Backend> {
    identity: Identity,
    texts: Texts<Prepared<B>>,
    adapters: Adapters<B>,
    backend: B,
    config: UNetConfig,
    network: Unet<B>,
}

/// A text, and the adapters that it was prepared with.
struct Prepared<B: Backend> {
    text: TextContext<B>,
    adapters: Option<Arc<Packed<B>>>,
}

impl<B: Backend> Prepared<B> {
    fn set(&self) -> Option<&Set<B>> {
        self.adapters.as_ref().and_then(|packed| packed.set())
    }
}

impl<B: Backend> UnetModel for UnetStage<B> {
    fn context_with(&mut self, prompt_embeds: &[f32], tokens: usize, loras: &[LoraUse]) -> Result<Context, ModelError> {
        let width = self.config.cross_attention_dim;
        check_length("prompt_embeds", prompt_embeds.len(), &[tokens, width])?;
        let Self { texts, adapters, backend, network, .. } = self;
        let adapters = adapters.get(backend, network.places(), loras)?;
        texts.get(prompt_embeds, &adapters::key(loras), || {
            let embeddings = backend.upload_tokens(prompt_embeds, [1, tokens, width])?;
            let set = adapters.as_ref().and_then(|packed| packed.set());
            let text = backend.pass(|| network.context(backend, &embeddings, set))?;
            let bytes = text.bytes(backend);
            Ok((Prepared { text, adapters }, bytes))
        })
    }

    fn adapter_bytes(&self, loras: &[LoraUse]) -> usize {
        self.adapters.bytes(loras)
    }

    fn predict(&mut self, rows: &[UnetRow<'_>], height: usize, width: usize) -> Result<Vec<Vec<f32>>, ModelError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let channels = self.config.in_channels;
        for row in rows {
            check_length("latents", row.latents.len(), &[channels, height, width])?;
            if !row.timestep.is_finite() {
                return Err(ModelError::input("timestep", format!("is {}; expected a finite number", row.timestep)));
            }
            match row.guidance_scale {
                Some(scale) if self.embeds_guidance() && scale.is_finite() => {}
                None if !self.embeds_guidance() => {}
                scale => {
                    let expected = if self.embeds_guidance() { "a finite number" } else { "none" };
                    return Err(ModelError::input("guidance_scale", format!("is {scale:?}; expected {expected}")));
                }
            }
        }
        let prepared: Vec<&Prepared<B>> =
            rows.iter().map(|row| self.texts.open(row.context)).collect::<Result<_, _>>()?;
        let texts: Vec<&TextContext<B>> = prepared.iter().map(|prepared| &prepared.text).collect();
        let sets: Vec<Option<&Set<B>>> = prepared.iter().map(|prepared| prepared.set()).collect();
        let timesteps: Vec<f32> = rows.iter().map(|row| row.timestep).collect();
        let scales: Vec<f32> = rows.iter().filter_map(|row| row.guidance_scale).collect();
        let latents: Vec<f32> = rows.iter().flat_map(|row| row.latents).copied().collect();
        let latents = self.backend.upload_image(&latents, [rows.len(), channels, height, width])?;
        let Self { backend, network, .. } = &*self;
        let forward = || network.forward(backend, &latents, (&timesteps, &scales), &texts, &sets);
        let noise_pred = backend.pass(|| backend.download(&forward()?))?;
        Ok(noise_pred.chunks_exact(self.latent_channels() * height * width).map(<[f32]>::to_vec).collect())
    }

    fn text_memory(&self) -> TextMemory {
        self.texts.memory()
    }

    fn in_channels(&self) -> usize {
        self.config.in_channels
    }

    fn embeds_guidance(&self) -> bool {
        self.network.embeds_guidance()
    }

    fn latent_channels(&self) -> usize {
        self.config.out_channels
    }

    fn cross_attention_dim(&self) -> usize {
        self.config.cross_attention_dim
    }
}

impl<B: Backend> LoadedModel for UnetStage<B> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn warm(&mut self) -> Result<(), ModelError> {
        const SIDE: usize = 8;
        let context = self.context(&vec![0.0; self.config.cross_attention_dim], 1)?;
        let latents = vec![0.0; self.config.in_channels * SIDE * SIDE];
        let guidance_scale = self.embeds_guidance().then_some(1.0);
        let row = UnetRow { latents: &latents, timestep: 0.0, context: &context, guidance_scale };
        self.predict(&[row], SIDE, SIDE).map(drop)
    }
}
