//! One layer of the text tower: causal self-attention, then a feed-forward with QuickGELU.

use crate::LoadError;
use crate::compute::{Activation, Backend, Epilogue, Mask, ModelError, Scope};
use crate::config::ClipConfig;

pub(super) struct EncoderLayer<B: Backend> {
    layer_norm1: B::LayerNorm,
    q_proj: B::Linear,
    k_proj: B::Linear,
    v_proj: B::Linear,
    out_proj: B::Linear,
    layer_norm2: B::LayerNorm,
    fc1: B::Linear,
    fc2: B::Linear,
    heads: usize,
}

impl<B: Backend> EncoderLayer<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &ClipConfig) -> Result<Self, LoadError> {
        let width = config.hidden_size;
        let attention = scope.enter("self_attn");
        let mlp = scope.enter("mlp");
        Ok(Self {
            layer_norm1: scope.layer_norm("layer_norm1", width, config.layer_norm_eps)?,
            q_proj: attention.linear("q_proj", (width, width))?,
            k_proj: attention.linear("k_proj", (width, width))?,
            v_proj: attention.linear("v_proj", (width, width))?,
            out_proj: attention.linear("out_proj", (width, width))?,
            layer_norm2: scope.layer_norm("layer_norm2", width, config.layer_norm_eps)?,
            fc1: mlp.linear("fc1", (width, config.intermediate_size))?,
            fc2: mlp.linear("fc2", (config.intermediate_size, width))?,
            heads: config.num_attention_heads,
        })
    }

    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let h = backend.layer_norm(&self.layer_norm1, x)?;
        let q = backend.linear(&self.q_proj, &h, Epilogue::rounded())?;
        let keys_values = backend.keys_values(&self.k_proj, &self.v_proj, &h, self.heads)?;
        let h = backend.attention(&q, &[&keys_values], self.heads, Mask::Causal)?;
        let x = backend.linear(&self.out_proj, &h, Epilogue::add(x))?;

        let h = backend.layer_norm(&self.layer_norm2, &x)?;
        let h = backend.linear(&self.fc1, &h, Epilogue::activation(Activation::QuickGelu))?;
        backend.linear(&self.fc2, &h, Epilogue::add(&x))
    }
}
