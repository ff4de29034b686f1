//! Normalisations on candle, with statistics in f32 whatever the activations are.
//!
//! The variance is taken of centred values: `E[x²] − E[x]²` loses digits where the mean is large, as it is in CLIP.

use candle_core::{D, DType, Result, Tensor};

/// Scale and shift of each channel, over groups of channels; Wu 2018, arXiv:1803.08494.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    pub(super) fn new(weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Self> {
        let per_group = weight.elem_count() / groups;
        let shape = (1, groups, per_group, 1);
        Ok(Self { weight: weight.reshape(shape)?, bias: bias.reshape(shape)?, groups, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let grouped = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let normed = standardise(&grouped, self.eps)?
            .reshape((batch, self.groups, channels / self.groups, height * width))?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?;
        normed.reshape((batch, channels, height, width))?.to_dtype(x.dtype())
    }
}

/// Scale and shift of each feature of a token; Ba 2016, arXiv:1607.06450.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x32 = x.to_dtype(DType::F32)?.contiguous()?;
        standardise(&x32, self.eps)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?.to_dtype(x.dtype())
    }
}

/// Mean zero and variance one along the last dimension.
fn standardise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_mul(&(variance + eps)?.sqrt()?.recip()?)
}
