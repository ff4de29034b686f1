//! Normalisations on the CPU: statistics and parameters are f32, the result is a factor of the next product.

use darkroom_kernels::{self as kernels, group_norm, layer_norm};

use super::{Cpu, Tensor};
use crate::compute::{Activation, ModelError};

/// Scale and shift of each channel, over groups of channels; Wu 2018, arXiv:1803.08494.
pub struct GroupNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) groups: usize,
    pub(super) eps: f32,
}

/// Scale and shift of each feature of a token; Ba 2016, arXiv:1607.06450.
pub struct LayerNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) eps: f32,
}

impl GroupNorm {
    /// An image, whose channels may lie in two parts.
    pub(super) fn apply(&self, cpu: &Cpu, x: &Tensor, activation: Activation) -> Result<Tensor, ModelError> {
        let silu = match activation {
            Activation::None => false,
            Activation::Silu => true,
            Activation::QuickGelu => {
                return Err(ModelError::Compute("no network has a quick GELU after a group normalisation".into()));
            }
        };
        let (weight, bias) = (&self.weight[..], &self.bias[..]);
        let norm = kernels::GroupNorm { groups: self.groups, eps: self.eps, weight, bias, silu };
        Ok(cpu.make(x.batch(), x.grid(), weight.len(), cpu.precision, |out| {
            group_norm(cpu.isa, &x.images(), &norm, out);
        }))
    }
}

impl LayerNorm {
    /// Tokens.
    pub(super) fn apply(&self, cpu: &Cpu, x: &Tensor) -> Result<Tensor, ModelError> {
        let input = x.matrix()?;
        let norm = kernels::LayerNorm { eps: self.eps, weight: &self.weight, bias: &self.bias };
        Ok(cpu.make(x.batch(), x.grid(), self.weight.len(), cpu.precision, |out| {
            layer_norm(cpu.isa, input, &norm, out);
        }))
    }
}
