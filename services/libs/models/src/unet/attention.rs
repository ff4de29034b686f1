//! Attention as the transformer blocks have it: without biases but for the output's.

use super::Conditions;
use super::text::{Slot, TextProjections};
use crate::LoadError;
use crate::compute::{Backend, Epilogue, Mask, ModelError, Scope};
use crate::lora::{Adapted, AdaptedAttention, Updates};

/// Every pixel attends to every pixel.
pub(super) struct SelfAttention<B: Backend> {
    attention: AdaptedAttention<B::SelfAttention>,
    to_out: Adapted<B::Linear>,
}

impl<B: Backend> SelfAttention<B> {
    pub(super) fn load(scope: &Scope<'_, B>, channels: usize, heads: usize) -> Result<Self, LoadError> {
        Ok(Self {
            attention: AdaptedAttention::load(scope, ["to_q", "to_k", "to_v"], channels, heads, false)?,
            to_out: Adapted::linear(scope, "to_out.0", (channels, channels))?,
        })
    }

    /// `residual + attention(x)`, tokens `[b, n, channels]`.
    pub(super) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        residual: &B::Tensor,
        updates: &Updates<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        let attended = updates.self_attention(backend, &self.attention, x, Mask::None)?;
        updates.linear(backend, &self.to_out, &attended, Epilogue::add_in_branch(residual))
    }
}

/// Every pixel attends to every token of its row's text.
pub(super) struct CrossAttention<B: Backend> {
    to_q: Adapted<B::Linear>,
    to_out: Adapted<B::Linear>,
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
            to_q: Adapted::linear_without_bias(scope, "to_q", (channels, channels))?,
            to_out: Adapted::linear(scope, "to_out.0", (channels, channels))?,
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
        Conditions { texts, updates, .. }: &Conditions<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        let other_network = || ModelError::input("context", "was prepared by another model");
        let keys_values: Vec<&B::KeysValues> =
            texts.iter().map(|text| text.layer(self.slot).ok_or_else(other_network)).collect::<Result<_, _>>()?;
        let q = updates.linear(backend, &self.to_q, x, Epilogue::rounded())?;
        let attended = backend.attention(&q, &keys_values, self.heads)?;
        updates.linear(backend, &self.to_out, &attended, Epilogue::add_in_branch(residual))
    }
}
