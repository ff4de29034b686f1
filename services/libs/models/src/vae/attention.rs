//! The autoencoder's attention: a single head, as wide as the image, over all pixels.

use super::NORM_EPS;
use crate::LoadError;
use crate::compute::{Activation, Backend, Epilogue, Mask, ModelError, Scope};

const HEADS: usize = 1;

pub(super) struct PixelAttention<B: Backend> {
    group_norm: B::GroupNorm,
    attention: B::SelfAttention,
    to_out: B::Linear,
}

impl<B: Backend> PixelAttention<B> {
    pub(super) fn load(scope: &Scope<'_, B>, channels: usize, groups: usize) -> Result<Self, LoadError> {
        Ok(Self {
            group_norm: scope.group_norm("group_norm", channels, groups, NORM_EPS)?,
            attention: scope.self_attention(["to_q", "to_k", "to_v"], channels, HEADS, true)?,
            to_out: scope.linear("to_out.0", (channels, channels))?,
        })
    }

    /// `image + attention(norm(image))`.
    pub(super) fn forward(&self, backend: &B, image: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let normed = backend.group_norm(&self.group_norm, image, Activation::None)?;
        let tokens = backend.image_to_tokens(&normed)?;
        let attended = backend.self_attention(&self.attention, &tokens, Mask::None, None)?;
        let residual = backend.image_to_tokens(image)?;
        let tokens = backend.linear(&self.to_out, &attended, Epilogue::add(&residual))?;
        backend.tokens_to_image(&tokens, backend.image_size(image)?)
    }
}
