//! Pointwise work and normalisations composed of candle's operations, one pass each: what any device can do.
//!
//! Statistics are f32 whatever the activations are, and the variance is taken of centred values: `E[x²] − E[x]²` loses digits
//! where the mean is large, as it is in CLIP.

use candle_core::{D, DType, Result, Tensor};

use super::norm::{GroupMoments, GroupNorm, LayerNorm};
use crate::compute::{Activation, Epilogue};

/// Bias and epilogue of a convolution (an image) or a linear layer (tokens).
pub(super) fn finish(mut y: Tensor, bias: Option<&Tensor>, epilogue: &Epilogue<'_, Tensor>) -> Result<Tensor> {
    if let Some(bias) = bias {
        y = match y.rank() {
            4 => y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
            _ => y.broadcast_add(bias)?,
        };
    }
    if let Some(shift) = epilogue.channel_bias {
        let (batch, _, channels) = shift.dims3()?;
        y = y.broadcast_add(&shift.reshape((batch, channels, 1, 1))?)?;
    }
    if let Some(added) = epilogue.added {
        y = (y + added)?;
    }
    y = activate(y, epilogue.activation)?;
    match epilogue.residual {
        Some(residual) => y + residual,
        None => Ok(y),
    }
}

/// See [`Backend::geglu`](crate::compute::Backend::geglu), after the product and without its bias.
pub(super) fn geglu(both: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let both = both.broadcast_add(bias)?;
    let half = both.dim(D::Minus1)? / 2;
    both.narrow(D::Minus1, 0, half)? * both.narrow(D::Minus1, half, half)?.contiguous()?.gelu_erf()?
}

/// Normalisation over groups of channels, then the activation.
pub(super) fn group_norm(norm: &GroupNorm, x: &Tensor, activation: Activation) -> Result<Tensor> {
    scale_and_shift(norm, &standardise(&grouped(norm, x)?, norm.eps)?, x, activation)
}

/// The moments of an image in bands: first the mean of all, then the variance about it.
pub(super) fn group_moments(norm: &GroupNorm, bands: &[&Tensor]) -> Result<GroupMoments> {
    let mut count = 0;
    let sums = bands.iter().map(|band| {
        let band = grouped(norm, band)?;
        count += band.dim(D::Minus1)?;
        band.sum_keepdim(D::Minus1)
    });
    let sums = sums.collect::<Result<Vec<_>>>()?;
    let mean_of = |parts: &[Tensor]| Tensor::cat(parts, D::Minus1)?.sum_keepdim(D::Minus1)? / count as f64;
    let mean = mean_of(&sums)?;
    let squares = bands.iter().map(|band| grouped(norm, band)?.broadcast_sub(&mean)?.sqr()?.sum_keepdim(D::Minus1));
    let variance = mean_of(&squares.collect::<Result<Vec<_>>>()?)?;
    Ok(GroupMoments { mean, inverse: (variance + norm.eps)?.sqrt()?.recip()? })
}

/// Rows of an image, by the moments of all of it.
pub(super) fn group_norm_by(
    norm: &GroupNorm,
    moments: &GroupMoments,
    x: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    let standard = grouped(norm, x)?.broadcast_sub(&moments.mean)?.broadcast_mul(&moments.inverse)?;
    scale_and_shift(norm, &standard, x, activation)
}

/// An image as `[batch, groups, values]`, in f32.
fn grouped(norm: &GroupNorm, x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.reshape((x.dim(0)?, norm.groups, ()))
}

/// What standard values `[batch, groups, values]` of the image `x` become.
fn scale_and_shift(norm: &GroupNorm, standard: &Tensor, x: &Tensor, activation: Activation) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let per_group = channels / norm.groups;
    let each = (1, norm.groups, per_group, 1);
    let normed = standard
        .reshape((batch, norm.groups, per_group, height * width))?
        .broadcast_mul(&norm.weight.reshape(each)?)?
        .broadcast_add(&norm.bias.reshape(each)?)?;
    activate(normed.reshape((batch, channels, height, width))?.to_dtype(x.dtype())?, activation)
}

/// Normalisation of each token.
pub(super) fn layer_norm(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let normed = standardise(&x.to_dtype(DType::F32)?.contiguous()?, norm.eps)?;
    normed.broadcast_mul(&norm.weight)?.broadcast_add(&norm.bias)?.to_dtype(x.dtype())
}

/// Mean zero and variance one along the last dimension.
fn standardise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_mul(&(variance + eps)?.sqrt()?.recip()?)
}

fn activate(x: Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(x),
        Activation::Silu => x.silu(),
        Activation::QuickGelu => &x * candle_nn::ops::sigmoid(&(&x * 1.702)?)?,
    }
}
