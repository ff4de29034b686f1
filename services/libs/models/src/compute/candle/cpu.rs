//! Fused pointwise work and normalisations of f32 tensors in main memory, one pass each.
//!
//! candle's own pointwise operations make a pass and a tensor each, on a pool of spinning threads that `--threads` does not
//! reach. These run on rayon's pool, where the matrix products run too.

use std::ops::Deref;

use candle_core::cpu::erf::erf_f32;
use candle_core::{CpuStorage, D, Device, Result, Storage, Tensor};
use rayon::prelude::*;

use super::norm::{GroupNorm, LayerNorm};
use crate::compute::{Activation, Epilogue};

/// Values that are worth a task of their own.
const TASK: usize = 1 << 13;

/// Bias and epilogue of a convolution (an image) or a linear layer (tokens).
pub(super) fn finish(y: &Tensor, bias: Option<&[f32]>, epilogue: &Epilogue<'_, Tensor>) -> Result<Tensor> {
    let Epilogue { channel_bias, activation, residual } = *epilogue;
    if bias.is_none() && channel_bias.is_none() && residual.is_none() && activation == Activation::None {
        return Ok(y.clone());
    }
    let shift = channel_bias.map(|shift| shift.flatten_all()?.to_vec1::<f32>()).transpose()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(read).transpose()?;
    let residual = residual.as_deref();
    // A line has one bias where it is a channel of an image, and all of them where it is a token.
    let (line, channels) = match *y.dims() {
        [_, channels, height, width] => (height * width, Some(channels)),
        _ => (y.dim(D::Minus1)?, None),
    };
    map_lines(y, y.dims(), line, line, |index, y, out| {
        match (channels, bias) {
            (Some(channels), bias) => {
                let own = bias.map_or(0.0, |bias| bias[index % channels]);
                let constant = own + shift.as_ref().map_or(0.0, |shift| shift[index]);
                fill(out, y, |y| y + constant);
            }
            (None, Some(bias)) => fill_two(out, y, bias, |y, bias| y + bias),
            (None, None) => out.copy_from_slice(y),
        }
        activate(out, activation);
        if let Some(residual) = residual {
            for (out, residual) in out.iter_mut().zip(&residual[index * line..]) {
                *out += residual;
            }
        }
    })
}

/// See [`Backend::geglu`](crate::compute::Backend::geglu), after the product and without its bias.
pub(super) fn geglu(both: &Tensor, bias: &[f32]) -> Result<Tensor> {
    let (rows, count, width) = both.dims3()?;
    let half = width / 2;
    let (value_bias, gate_bias) = bias.split_at(half);
    map_lines(both, &[rows, count, half], width, half, |_, both, out| {
        let (values, gates) = both.split_at(half);
        fill_two(out, gates, gate_bias, |gate, bias| gelu(gate + bias));
        for ((out, value), bias) in out.iter_mut().zip(values).zip(value_bias) {
            *out *= value + bias;
        }
    })
}

/// Normalisation over groups of channels, then the activation.
pub(super) fn group_norm(norm: &GroupNorm, x: &Tensor, activation: Activation) -> Result<Tensor> {
    let (_, channels, height, width) = x.dims4()?;
    let (pixels, per_group) = (height * width, channels / norm.groups);
    let line = per_group * pixels;
    map_lines(x, x.dims(), line, line, |index, x, out| {
        let (mean, scale) = moments(x, norm.eps);
        let first = index % norm.groups * per_group;
        let planes = x.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels));
        for (channel, (x, out)) in (first..).zip(planes) {
            let (weight, bias) = (norm.weight.values[channel] * scale, norm.bias.values[channel]);
            fill(out, x, |x| (x - mean) * weight + bias);
        }
        activate(out, activation);
    })
}

/// Normalisation of each token.
pub(super) fn layer_norm(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    map_lines(x, x.dims(), width, width, |_, x, out| {
        let (mean, scale) = moments(x, norm.eps);
        fill_two(out, x, &norm.weight.values, |x, weight| (x - mean) * scale * weight);
        for (out, bias) in out.iter_mut().zip(&norm.bias.values) {
            *out += bias;
        }
    })
}

/// A tensor of `shape` whose lines of `to` values each come from a line of `from` values of `x`, in parallel.
fn map_lines(
    x: &Tensor,
    shape: &[usize],
    from: usize,
    to: usize,
    line: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let mut out = vec![0.0; shape.iter().product()];
    let values = read(&x)?;
    let lines = values.par_chunks_exact(from.max(1)).zip(out.par_chunks_exact_mut(to.max(1))).enumerate();
    lines.with_min_len((TASK / from.max(1)).max(1)).for_each(|(index, (x, out))| line(index, x, out));
    Tensor::from_vec(out, shape, &Device::Cpu)
}

fn fill(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f(*x);
    }
}

fn fill_two(out: &mut [f32], x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = f(*x, *y);
    }
}

fn activate(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::None => {}
        Activation::Silu => x.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp()),
        Activation::QuickGelu => x.iter_mut().for_each(|x| *x /= 1.0 + (-1.702 * *x).exp()),
    }
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Mean, and one over the standard deviation.
fn moments(x: &[f32], eps: f64) -> (f32, f32) {
    let count = x.len() as f64;
    let mean = sum(x, f64::from) / count;
    let variance = sum(x, |x| (f64::from(x) - mean).powi(2)) / count;
    (mean as f32, (1.0 / (variance + eps).sqrt()) as f32)
}

/// In f64 and in lanes, so that the order of additions depends on the length alone.
fn sum(x: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let (blocks, rest) = x.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f(*x);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|x| f(*x)).sum::<f64>()
}

/// The elements of a contiguous f32 tensor in main memory, and the lock that keeps them.
struct Values<G> {
    storage: G,
    start: usize,
    end: usize,
}

fn read(x: &Tensor) -> Result<Values<impl Deref<Target = Storage>>> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) if end <= values.len() => {
            Ok(Values { storage, start, end })
        }
        _ => candle_core::bail!("expected a contiguous f32 tensor in main memory"),
    }
}

impl<G: Deref<Target = Storage>> Deref for Values<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            // `read` has seen to it that there is no other case.
            _ => &[],
        }
    }
}
