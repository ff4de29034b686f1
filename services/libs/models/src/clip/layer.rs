//! One layer of a CLIP tower, text or vision: self-attention, then a feed-forward with QuickGELU.

use crate::LoadError;
use crate::compute::{Activation, Backend, Epilogue, Mask, ModelError, Scope};
use crate::lora::{Adapted, AdaptedAttention, Updates};

/// What the layers of a tower have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSizes {
    /// Features of a token.
    pub(crate) width: usize,
    /// Features within the feed-forward.
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) eps: f64,
    /// Causal for text, none for pictures.
    pub(crate) mask: Mask,
}

pub(crate) struct EncoderLayer<B: Backend> {
    mask: Mask,
    layer_norm1: B::LayerNorm,
    attention: AdaptedAttention<B::SelfAttention>,
    out_proj: Adapted<B::Linear>,
    layer_norm2: B::LayerNorm,
    fc1: Adapted<B::Linear>,
    fc2: Adapted<B::Linear>,
}

impl<B: Backend> EncoderLayer<B> {
    pub(crate) fn load(scope: &Scope<'_, B>, sizes: LayerSizes) -> Result<Self, LoadError> {
        let LayerSizes { width, inner, heads, eps, mask } = sizes;
        let attention = scope.enter("self_attn");
        let mlp = scope.enter("mlp");
        Ok(Self {
            mask,
            layer_norm1: scope.layer_norm("layer_norm1", width, eps)?,
            attention: AdaptedAttention::load(&attention, ["q_proj", "k_proj", "v_proj"], width, heads, true)?,
            out_proj: Adapted::linear(&attention, "out_proj", (width, width))?,
            layer_norm2: scope.layer_norm("layer_norm2", width, eps)?,
            fc1: Adapted::linear(&mlp, "fc1", (width, inner))?,
            fc2: Adapted::linear(&mlp, "fc2", (inner, width))?,
        })
    }

    pub(crate) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        updates: &Updates<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        let h = backend.layer_norm(&self.layer_norm1, x)?;
        let h = updates.self_attention(backend, &self.attention, &h, self.mask)?;
        let x = updates.linear(backend, &self.out_proj, &h, Epilogue::add(x))?;

        let h = backend.layer_norm(&self.layer_norm2, &x)?;
        let h = updates.linear(backend, &self.fc1, &h, Epilogue::activation(Activation::QuickGelu))?;
        updates.linear(backend, &self.fc2, &h, Epilogue::add(&x))
    }
}
