//! The text encoder as its service sees it.

use std::sync::Arc;

use super::adapters::Adapters;
use super::{Identity, LoadedModel, TextMemory, check_length};
use crate::LoadError;
use crate::clip::TextEncoder;
use crate::compute::candle::Candle;
use crate::compute::cpu::Cpu;
use crate::compute::timed::{Timed, Timings};
use crate::compute::{Backend, ComputeOptions, Device, ModelError, Scope};
use crate::config::ClipConfig;
use crate::inversion::Inversions;
use crate::lora::{LoraUse, Loras, Network};
use crate::source::ModelSource;

/// CLIP's text tower.
pub trait TextEncoderModel: LoadedModel {
    /// Token ids, row by row and equally many in each → `prompt_embeds`, row by row: `[count, hidden_size]`, row-major.
    ///
    /// The last `clip_skip` layers are left out, as diffusers counts: 0 uses all of them.
    ///
    /// # Errors
    /// [`ModelError::Input`] for rows of unequal or unfitting length, an id outside of the vocabulary, or a `clip_skip` that
    /// leaves no layer.
    fn encode(&mut self, token_ids: &[Vec<u32>], clip_skip: usize) -> Result<Vec<Vec<f32>>, ModelError> {
        self.encode_with(token_ids, clip_skip, &[])
    }

    /// As [`TextEncoderModel::encode`], with adapters.
    ///
    /// # Errors
    /// [`ModelError::Input`] for one that is not loaded, too.
    fn encode_with(
        &mut self,
        token_ids: &[Vec<u32>],
        clip_skip: usize,
        loras: &[LoraUse],
    ) -> Result<Vec<Vec<f32>>, ModelError>;

    /// Width of an embedding; 768 in v1.
    fn hidden_size(&self) -> usize;

    /// Tokens of a prompt with its start and end; 77 in v1.
    fn max_tokens(&self) -> usize;

    /// Transformer layers; 12 in v1.
    fn num_layers(&self) -> usize;
}

/// Loads the text encoder of a model.
///
/// # Errors
/// What does not fit about the device, the configuration or the weights.
pub fn load_text_encoder(
    source: &ModelSource,
    options: &ComputeOptions,
) -> Result<Box<dyn TextEncoderModel>, LoadError> {
    load_text_encoder_with(source, options, &Inversions::default(), &Loras::default())
}

/// As [`load_text_encoder`], with the vectors of `inversions`, whose ids follow the vocabulary's, and with adapters that requests may name. Its
/// revision covers both.
///
/// # Errors
/// As [`load_text_encoder`].
pub fn load_text_encoder_with(
    source: &ModelSource,
    options: &ComputeOptions,
    inversions: &Inversions,
    loras: &Loras,
) -> Result<Box<dyn TextEncoderModel>, LoadError> {
    match options.device {
        Device::Cpu => build(Cpu::open(options)?, source, options, inversions, loras),
        Device::Cuda(_) | Device::Metal => build(Candle::open(options)?, source, options, inversions, loras),
    }
}

/// As [`load_text_encoder`], with the time of each layer group added to `timings`.
///
/// A GPU's operations return before they are done, so there is nothing to time: its model is the plain one.
///
/// # Errors
/// As [`load_text_encoder`].
pub fn load_text_encoder_timed(
    source: &ModelSource,
    options: &ComputeOptions,
    timings: &Arc<Timings>,
) -> Result<Box<dyn TextEncoderModel>, LoadError> {
    match options.device {
        Device::Cpu => {
            let (inversions, loras) = (Inversions::default(), Loras::default());
            build(Timed::new(Cpu::open(options)?, timings), source, options, &inversions, &loras)
        }
        Device::Cuda(_) | Device::Metal => load_text_encoder(source, options),
    }
}

fn build<B: Backend>(
    backend: B,
    source: &ModelSource,
    options: &ComputeOptions,
    inversions: &Inversions,
    loras: &Loras,
) -> Result<Box<dyn TextEncoderModel>, LoadError> {
    let (config, weights) = source.text_encoder()?;
    let vectors = inversions.vectors();
    let network = TextEncoder::load(&Scope::root(&backend, &weights), &config, &vectors)?;
    weights.finish();
    let mut identity = Identity::new(&weights, options);
    if !inversions.is_empty() {
        identity.revision = identity.revision_with(&inversions.digest());
    }
    identity = identity.with_loras(loras);
    let adapters = Adapters::new(Network::TextEncoder, loras.clone(), TextMemory::default());
    let vocabulary = config.vocab_size + vectors.len() / config.hidden_size;
    Ok(Box::new(TextEncoderStage { identity, backend, config, vocabulary, network, adapters }))
}

struct TextEncoderStage<B: Backend> {
    identity: Identity,
    backend: B,
    config: ClipConfig,
    /// Ids of tokens, and of inversions' vectors behind them.
    vocabulary: usize,
    network: TextEncoder<B>,
    adapters: Adapters<B>,
}

impl<B: Backend> TextEncoderModel for TextEncoderStage<B> {
    fn encode_with(
        &mut self,
        token_ids: &[Vec<u32>],
        clip_skip: usize,
        loras: &[LoraUse],
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let Some(count) = token_ids.first().map(Vec::len) else { return Ok(Vec::new()) };
        self.check(token_ids, count, clip_skip)?;
        let Self { backend, network, adapters, .. } = self;
        let packed = adapters.get(backend, network.places(), loras)?;
        let set = packed.as_ref().and_then(|packed| packed.set());
        let values = backend.pass(|| backend.download(&network.forward(backend, token_ids, clip_skip, set)?))?;
        check_length("prompt_embeds", values.len(), &[token_ids.len(), count, self.config.hidden_size])?;
        Ok(values.chunks_exact(count * self.config.hidden_size).map(<[f32]>::to_vec).collect())
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn num_layers(&self) -> usize {
        self.config.num_hidden_layers
    }
}

impl<B: Backend> TextEncoderStage<B> {
    fn check(&self, token_ids: &[Vec<u32>], count: usize, clip_skip: usize) -> Result<(), ModelError> {
        let (most, vocabulary) = (self.max_tokens(), self.vocabulary);
        if count == 0 || count > most {
            return Err(ModelError::input("token_ids", format!("has rows of {count} tokens; expected 1 to {most}")));
        }
        if let Some(row) = token_ids.iter().find(|row| row.len() != count) {
            let problem = format!("has rows of {count} and of {} tokens; expected equal lengths", row.len());
            return Err(ModelError::input("token_ids", problem));
        }
        let outside = |id: &&u32| usize::try_from(**id).map_or(true, |id| id >= vocabulary);
        if let Some(id) = token_ids.iter().flatten().find(outside) {
            let problem = format!("has the id {id}; the vocabulary has {vocabulary}");
            return Err(ModelError::input("token_ids", problem));
        }
        if clip_skip >= self.num_layers() {
            let problem = format!("is {clip_skip}; expected less than the {} layers", self.num_layers());
            return Err(ModelError::input("clip_skip", problem));
        }
        Ok(())
    }
}

impl<B: Backend> LoadedModel for TextEncoderStage<B> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn warm(&mut self) -> Result<(), ModelError> {
        self.encode(&[vec![0; self.max_tokens()]], 0).map(drop)
    }
}
