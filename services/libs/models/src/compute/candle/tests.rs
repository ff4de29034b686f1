//! The fused passes of CPUs against the composed ones of GPUs, which candle runs on a CPU as well.

use candle_core::{Device, Result, Tensor};

use super::norm::{GroupNorm, LayerNorm, Vector};
use super::{cpu, gpu};
use crate::compute::{Activation, Epilogue};

const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Silu, Activation::QuickGelu];

/// Values between −3 and 3 that repeat late.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 601) as f32 / 100.0 - 3.0).collect()
}

fn tensor(shape: &[usize], seed: usize) -> Result<Tensor> {
    Tensor::from_vec(values(shape.iter().product(), seed), shape, &Device::Cpu)
}

fn vector(count: usize, seed: usize) -> Result<Vector> {
    Vector::new(values(count, seed), &Device::Cpu)
}

fn assert_close(fused: &Tensor, composed: &Tensor) -> Result<()> {
    assert_eq!(fused.dims(), composed.dims());
    let (fused, composed) = (fused.flatten_all()?.to_vec1::<f32>()?, composed.flatten_all()?.to_vec1::<f32>()?);
    for (a, b) in fused.iter().zip(&composed) {
        assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{a} is not {b}");
    }
    Ok(())
}

#[test]
fn epilogues_of_images() -> Result<()> {
    let (y, bias, shift) = (tensor(&[2, 6, 5, 7], 1)?, vector(6, 2)?, tensor(&[2, 1, 6], 3)?);
    // A transposed view, as a residual that was tokens is.
    let residual = tensor(&[2, 6, 7, 5], 4)?.transpose(2, 3)?;
    for activation in ACTIVATIONS {
        for (channel_bias, residual) in
            [(None, None), (Some(&shift), None), (None, Some(&residual)), (Some(&shift), Some(&residual))]
        {
            let epilogue = Epilogue { channel_bias, activation, residual };
            let fused = cpu::finish(&y, Some(&bias.values), &epilogue)?;
            assert_close(&fused, &gpu::finish(y.clone(), Some(&bias.tensor), &epilogue)?)?;
        }
    }
    Ok(())
}

#[test]
fn epilogues_of_tokens() -> Result<()> {
    let (y, bias, residual) = (tensor(&[2, 9, 6], 1)?, vector(6, 2)?, tensor(&[2, 6, 9], 3)?.transpose(1, 2)?);
    for bias in [None, Some(&bias)] {
        for residual in [None, Some(&residual)] {
            let epilogue = Epilogue { channel_bias: None, activation: Activation::QuickGelu, residual };
            let fused = cpu::finish(&y, bias.map(|bias| bias.values.as_slice()), &epilogue)?;
            assert_close(&fused, &gpu::finish(y.clone(), bias.map(|bias| &bias.tensor), &epilogue)?)?;
        }
    }
    Ok(())
}

#[test]
fn gates() -> Result<()> {
    let (both, bias) = (tensor(&[2, 5, 14], 1)?, vector(14, 2)?);
    assert_close(&cpu::geglu(&both, &bias.values)?, &gpu::geglu(&both, &bias.tensor)?)
}

#[test]
fn normalisations() -> Result<()> {
    let image = tensor(&[2, 12, 5, 7], 1)?;
    for (groups, activation) in [(1, Activation::None), (3, Activation::Silu), (12, Activation::Silu)] {
        let norm = GroupNorm { weight: vector(12, 2)?, bias: vector(12, 3)?, groups, eps: 1e-5 };
        assert_close(&cpu::group_norm(&norm, &image, activation)?, &gpu::group_norm(&norm, &image, activation)?)?;
    }
    let norm = LayerNorm { weight: vector(33, 2)?, bias: vector(33, 3)?, eps: 1e-5 };
    let tokens = tensor(&[2, 4, 33], 4)?;
    assert_close(&cpu::layer_norm(&norm, &tokens)?, &gpu::layer_norm(&norm, &tokens)?)
}
