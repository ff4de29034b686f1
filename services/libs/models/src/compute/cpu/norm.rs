//! Normalisations on the CPU: statistics and parameters are f32, the result is a factor of the next product.

use darkroom_kernels::{self as kernels, GroupScales, Image, group_norm, group_norm_rows, group_scales, layer_norm};

use super::tensor::stacked_size;
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
        let norm = self.kernel(is_silu(activation)?);
        Ok(cpu.make(x.batch(), x.grid(), norm.weight.len(), cpu.precision, |out| {
            group_norm(cpu.isa, &x.images(), &norm, out);
        }))
    }

    /// Of the picture that the bands are.
    pub(super) fn moments(&self, cpu: &Cpu, bands: &[&Tensor]) -> Result<GroupScales, ModelError> {
        stacked_size(bands)?;
        let images: Vec<Image<'_>> = bands.iter().flat_map(|band| band.images()).collect();
        Ok(group_scales(cpu.isa, &images, &self.kernel(false)))
    }

    fn kernel(&self, silu: bool) -> kernels::GroupNorm<'_> {
        kernels::GroupNorm { groups: self.groups, eps: self.eps, weight: &self.weight, bias: &self.bias, silu }
    }
}

/// Rows of a picture, by the moments of all of it.
pub(super) fn apply_to_rows(
    cpu: &Cpu,
    moments: &GroupScales,
    pieces: &[&Tensor],
    activation: Activation,
) -> Result<Tensor, ModelError> {
    let silu = is_silu(activation)?;
    let (grid, channels) = stacked_size(pieces)?;
    let images: Vec<Image<'_>> = pieces.iter().flat_map(|piece| piece.images()).collect();
    Ok(cpu.make(1, grid, channels, cpu.precision, |out| group_norm_rows(cpu.isa, &images, moments, silu, out)))
}

fn is_silu(activation: Activation) -> Result<bool, ModelError> {
    match activation {
        Activation::None => Ok(false),
        Activation::Silu => Ok(true),
        Activation::QuickGelu => {
            Err(ModelError::Compute("no network has a quick GELU after a group normalisation".into()))
        }
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
