//! Attention as the transformer blocks have it: without biases but for the output's.

use super::text::{Slot, TextContext, TextProjections};
use crate::LoadError;
use crate::compute::{Backend, Epilogue, Mask, ModelError, Scope};

/// Every pixel attends to every pixel.
pub(super) struct SelfAttention<B: Backend> {
    attention: B::SelfAttention,
    to_out: B::Linear,
}

impl<B: Backend> SelfAttention<B> {
    pub(super) fn load(scope: &Scope<'_, B>, channels: usize, heads: usize) -> Result<Self, LoadError> {
        Ok(Self {
            attention: scope.self_attention(["to_q", "to_k", "to_v"], channels, heads, false)?,
            to_out: scope.linear("to_out.0", (channels, channels))?,
        })
    }

    /// `residual + attention(x)`, tokens `[b, n, channels]`.
    pub(super) fn forward(&self, backend: &B, x: &B::Tensor, residual: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let attended = backend.self_attention(&self.attention, x, Mask::None)?;
        backend.linear(&self.to_out, &attended, Epilogue::add_in_branch(residual))
    }
}

/// Every pixel attends to every token of its row's text.
pub(super) struct CrossAttention<B: Backend> {
    to_q: B::Linear,
    to_out: B::Linear,
    heads: usize,
    slot: Slot,
}

impl<B: Backend> CrossAttention<B> {
    pub(super) fn load(
        scope: &Scope<'_, B>,
        channels: usize,
        heads: usize,
        text: &mut TextProjections<B>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            to_q: scope.linear_without_bias("to_q", (channels, channels))?,
            to_out: scope.linear("to_out.0", (channels, channels))?,
            heads,
            slot: text.load(scope, channels, heads)?,
        })
    }

    /// `residual + attention(x, text)`, tokens `[b, n, channels]`.
    pub(super) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        residual: &B::Tensor,
        texts: &[&TextContext<B>],
    ) -> Result<B::Tensor, ModelError> {
        let other_network = || ModelError::input("context", "was prepared by another model");
        let keys_values: Vec<&B::KeysValues> =
            texts.iter().map(|text| text.layer(self.slot).ok_or_else(other_network)).collect::<Result<_, _>>()?;
        let q = backend.linear(&self.to_q, x, Epilogue::rounded())?;
        let attended = backend.attention(&q, &keys_values, self.heads)?;
        backend.linear(&self.to_out, &attended, Epilogue::add_in_branch(residual))
    }
}
