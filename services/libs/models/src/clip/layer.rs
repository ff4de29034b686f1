//! One layer of the text tower: causal self-attention, then a feed-forward with QuickGELU.

use crate::LoadError;
use crate::compute::{Activation, Backend, Epilogue, Mask, ModelError, Scope};
use crate::config::ClipConfig;

pub(super) struct EncoderLayer<B: Backend> {
    layer_norm1: B::LayerNorm,
    attention: B::SelfAttention,
    out_proj: B::Linear,
    layer_norm2: B::LayerNorm,
    fc1: B::Linear,
    fc2: B::Linear,
}

impl<B: Backend> EncoderLayer<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &ClipConfig) -> Result<Self, LoadError> {
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        let attention = scope.enter("self_attn");
        let mlp = scope.enter("mlp");
        Ok(Self {
            layer_norm1: scope.layer_norm("layer_norm1", width, config.layer_norm_eps)?,
            attention: attention.self_attention(["q_proj", "k_proj", "v_proj"], width, heads, true)?,
            out_proj: attention.linear("out_proj", (width, width))?,
            layer_norm2: scope.layer_norm("layer_norm2", width, config.layer_norm_eps)?,
            fc1: mlp.linear("fc1", (width, config.intermediate_size))?,
            fc2: mlp.linear("fc2", (config.intermediate_size, width))?,
        })
    }

    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let h = backend.layer_norm(&self.layer_norm1, x)?;
        let h = backend.self_attention(&self.attention, &h, Mask::Causal)?;
        let x = backend.linear(&self.out_proj, &h, Epilogue::add(x))?;

        let h = backend.layer_norm(&self.layer_norm2, &x)?;
        let h = backend.linear(&self.fc1, &h, Epilogue::activation(Activation::QuickGelu))?;
        backend.linear(&self.fc2, &h, Epilogue::add(&x))
    }
}
