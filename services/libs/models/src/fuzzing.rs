//! Doors for the fuzz targets of `tests/fuzz`: the readers of files over bytes in memory, and tensors as they were read.

use darkroom_samplers::ScheduleConfig;

use crate::config::{self, ClipConfig, Defaults};
use crate::error::LoadError;
use crate::lora::Layers;
use crate::source::{LatentRgb, ModelSource};
use crate::tokenizer::Tokenizer;
use crate::weights::{Blob, Dtype, SingleFile, read_tensors};

/// The name that errors give the bytes.
pub const FILE: &str = "fuzzed";

/// A tensor by its name in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Row-major.
    pub bytes: Vec<u8>,
}

/// All tensors of a safetensors file or a torch checkpoint, in the order in which they were read.
pub fn tensors(file: &[u8]) -> Result<Vec<NamedTensor>, LoadError> {
    let blob = blob(file);
    let named = |(name, stored): (String, crate::weights::Stored)| NamedTensor {
        name,
        dtype: stored.dtype(),
        shape: stored.shape().to_vec(),
        bytes: stored.bytes().into_owned(),
    };
    Ok(read_tensors(&blob)?.into_iter().map(named).collect())
}

/// A single file as a whole model.
pub fn single_file(file: &[u8]) -> Result<ModelSource, LoadError> {
    ModelSource::single(FILE.into(), SingleFile::read(&blob(file))?, Default::default())
}

/// The tokenizer of single files, as long as Stable Diffusion v1's.
pub fn clip_tokenizer() -> Result<Tokenizer, LoadError> {
    Tokenizer::clip(FILE, &clip(77, 49_408))
}

/// The tokenizer of a `tokenizer.json`.
pub fn tokenizer(json: &[u8], length: usize, rows: usize) -> Result<Tokenizer, LoadError> {
    Tokenizer::from_json(&blob(json), &clip(length, rows))
}

/// The embedded model's layers that LoRAs may change.
pub struct AdaptedLayers(Layers);

/// What a LoRA adds to one layer.
pub struct AdaptedLayer {
    pub rank: usize,
    pub scale: f32,
    /// Values that go into an output of the first factor.
    pub inputs: usize,
    pub outputs: usize,
    pub down: Vec<f32>,
    pub up: Vec<f32>,
}

impl AdaptedLayers {
    /// Of both networks.
    pub fn pocket() -> Result<Self, LoadError> {
        Layers::of(&ModelSource::resolve(None, Default::default())?).map(Self)
    }

    /// Reads a LoRA's file.
    pub fn read(&self, file: &[u8]) -> Result<Vec<AdaptedLayer>, LoadError> {
        self.0.fuzzed(&blob(file))
    }
}

/// `defaults.json`.
pub fn defaults(json: &[u8], size: usize, factor: usize) -> Result<Defaults, LoadError> {
    Defaults::from_json(FILE, json, size, factor)
}

/// `scheduler_config.json`.
pub fn schedule(json: &[u8]) -> Result<ScheduleConfig, LoadError> {
    config::read_schedule(FILE, json)
}

/// `model_index.json`.
pub fn pipeline(json: &[u8]) -> Result<(), LoadError> {
    config::check_pipeline(FILE, json)
}

/// `latent_rgb.json`.
pub fn latent_rgb(json: &[u8], channels: usize) -> Result<LatentRgb, LoadError> {
    LatentRgb::from_json(FILE, json, channels)
}

fn blob(bytes: &[u8]) -> Blob {
    Blob::embedded(FILE, &[]).derived(bytes.to_vec())
}

fn clip(max_position_embeddings: usize, vocab_size: usize) -> ClipConfig {
    ClipConfig {
        vocab_size,
        hidden_size: 64,
        intermediate_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        max_position_embeddings,
        layer_norm_eps: 1e-5,
    }
}
