//! CLIP's text tower: token ids in, one embedding a token out; Radford 2021, arXiv:2103.00020.
//!
//! A transformer with causal attention and the normalisations before each sub-layer. Padding is not masked: the reference
//! lets the model see it, and so do all models trained with it.

pub(crate) mod layer;

use crate::LoadError;
use crate::compute::{Backend, Mask, ModelError, Place, Scope};
use crate::config::ClipConfig;
use crate::lora::{Set, Updates};
use layer::{EncoderLayer, LayerSizes};

/// The text tower.
pub struct TextEncoder<B: Backend> {
    token_embedding: B::Embedding,
    position_embedding: B::Embedding,
    layers: Vec<EncoderLayer<B>>,
    final_layer_norm: B::LayerNorm,
    places: Vec<Place>,
}

impl<B: Backend> TextEncoder<B> {
    /// Packs the weights that `config` asks for; the table of tokens goes on with `more` vectors `[any, hidden_size]`.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape.
    pub fn load(scope: &Scope<'_, B>, config: &ClipConfig, more: &[f32]) -> Result<Self, LoadError> {
        let width = config.hidden_size;
        let sizes = LayerSizes {
            width,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            eps: config.layer_norm_eps,
            mask: Mask::Causal,
        };
        let embeddings = scope.enter("embeddings");
        Ok(Self {
            token_embedding: embeddings.embedding_with("token_embedding", config.vocab_size, width, more)?,
            position_embedding: embeddings.embedding("position_embedding", config.max_position_embeddings, width)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| EncoderLayer::load(&scope.enter("encoder.layers").enter(index), sizes))
                .collect::<Result<_, _>>()?,
            final_layer_norm: scope.layer_norm("final_layer_norm", width, config.layer_norm_eps)?,
            places: scope.places(),
        })
    }

    /// The layers that adapters may change.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Token ids `[rows][count]` → embeddings `[rows, count, hidden_size]`.
    ///
    /// The last `clip_skip` layers are left out; the final normalisation never is. This is diffusers' `clip_skip`, one less
    /// than the "CLIP skip" of some user interfaces.
    ///
    /// # Errors
    /// Whatever the backend reports.
    pub(crate) fn forward(
        &self,
        backend: &B,
        ids: &[Vec<u32>],
        clip_skip: usize,
        adapters: Option<&Set<B>>,
    ) -> Result<B::Tensor, ModelError> {
        let updates = Updates::same(adapters, ids.len());
        let mut x = backend.embed(&self.token_embedding, &self.position_embedding, ids)?;
        for layer in &self.layers[..self.layers.len().saturating_sub(clip_skip)] {
            x = layer.forward(backend, &x, &updates)?;
        }
        backend.layer_norm(&self.final_layer_norm, &x)
    }
}
