//! The spatial transformer: pixels as tokens through self-attention, cross-attention to the text and a gated feed-forward;
//! Rombach 2022, arXiv:2112.10752, appendix E.2.1.

use super::Conditions;
use super::attention::{CrossAttention, SelfAttention};
use super::text::TextProjections;
use crate::LoadError;
use crate::compute::{Activation, Backend, Epilogue, ModelError, Scope};
use crate::lora::Adapted;

/// Epsilon of the normalisation before the tokens; everywhere else the UNet has `norm_eps`.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// Hidden width of the feed-forward, in widths of the block.
const FEED_FORWARD_FACTOR: usize = 4;

pub(super) struct Transformer<B: Backend> {
    norm: B::GroupNorm,
    proj_in: Adapted<B::Linear>,
    block: TransformerBlock<B>,
    proj_out: Adapted<B::Linear>,
}

impl<B: Backend> Transformer<B> {
    pub(super) fn load(
        scope: &Scope<'_, B>,
        channels: usize,
        heads: usize,
        groups: usize,
        text: &mut TextProjections<B>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            norm: scope.group_norm("norm", channels, groups, GROUP_NORM_EPS)?,
            proj_in: Adapted::pixel_linear(scope, "proj_in", (channels, channels))?,
            block: TransformerBlock::load(&scope.enter("transformer_blocks.0"), channels, heads, text)?,
            proj_out: Adapted::pixel_linear(scope, "proj_out", (channels, channels))?,
        })
    }

    /// An image `[b, channels, h, w]` → the same shape.
    pub(super) fn forward(
        &self,
        backend: &B,
        image: &B::Tensor,
        conditions: &Conditions<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        let normed = backend.group_norm(&self.norm, image, Activation::None)?;
        let tokens = backend.image_to_tokens(&normed)?;
        let tokens = conditions.updates.linear(backend, &self.proj_in, &tokens, Epilogue::rounded())?;
        let tokens = self.block.forward(backend, tokens, conditions)?;
        let residual = backend.image_to_tokens(image)?;
        let tokens = conditions.updates.linear(backend, &self.proj_out, &tokens, Epilogue::add(&residual))?;
        backend.tokens_to_image(&tokens, backend.image_size(image)?)
    }
}

struct TransformerBlock<B: Backend> {
    norm1: B::LayerNorm,
    attn1: SelfAttention<B>,
    norm2: B::LayerNorm,
    attn2: CrossAttention<B>,
    norm3: B::LayerNorm,
    geglu: Adapted<B::Geglu>,
    ff_out: Adapted<B::Linear>,
}

impl<B: Backend> TransformerBlock<B> {
    fn load(
        scope: &Scope<'_, B>,
        channels: usize,
        heads: usize,
        text: &mut TextProjections<B>,
    ) -> Result<Self, LoadError> {
        let hidden = FEED_FORWARD_FACTOR * channels;
        let feed_forward = scope.enter("ff.net");
        Ok(Self {
            norm1: scope.layer_norm("norm1", channels, LAYER_NORM_EPS)?,
            attn1: SelfAttention::load(&scope.enter("attn1"), channels, heads)?,
            norm2: scope.layer_norm("norm2", channels, LAYER_NORM_EPS)?,
            attn2: CrossAttention::load(&scope.enter("attn2"), channels, heads, text)?,
            norm3: scope.layer_norm("norm3", channels, LAYER_NORM_EPS)?,
            geglu: Adapted::geglu(&feed_forward, "0.proj", (channels, hidden))?,
            ff_out: Adapted::linear(&feed_forward, "2", (hidden, channels))?,
        })
    }

    /// Tokens `[b, n, channels]` → the same shape.
    fn forward(&self, backend: &B, x: B::Tensor, conditions: &Conditions<'_, B>) -> Result<B::Tensor, ModelError> {
        let normed = backend.layer_norm(&self.norm1, &x)?;
        let x = self.attn1.forward(backend, &normed, &x, &conditions.updates)?;

        let normed = backend.layer_norm(&self.norm2, &x)?;
        let x = self.attn2.forward(backend, &normed, &x, conditions)?;

        let normed = backend.layer_norm(&self.norm3, &x)?;
        let hidden = conditions.updates.geglu(backend, &self.geglu, &normed)?;
        conditions.updates.linear(backend, &self.ff_out, &hidden, Epilogue::add_in_branch(&x))
    }
}
