//! Linear layers on the CPU, gated ones too.

use darkroom_kernels::{self as kernels, GroupBias, PackedWeights, Residual, gemm};

use super::{Cpu, Tensor};
use crate::compute::{Activation, Epilogue, ModelError};
use crate::weights::WeightTensor;

/// Packed weights and the bias.
pub struct Linear {
    pub(super) weights: PackedWeights,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// From `[out, in]`, or a 1×1 convolution's `[out, in, 1, 1]`.
    pub(super) fn new(cpu: &Cpu, weight: &WeightTensor<'_>, bias: Option<&WeightTensor<'_>>) -> Self {
        let values = weight.as_f32();
        let (n, k) = (weight.shape[0], weight.shape[1]);
        let weights = PackedWeights::linear(cpu.isa, cpu.precision, &values[..], n, k);
        Self { weights, bias: bias.map(WeightTensor::to_f32) }
    }

    /// Layers of one width over the same input, side by side.
    pub(super) fn joined(cpu: &Cpu, weights: &[WeightTensor<'_>], biases: Option<&[WeightTensor<'_>]>) -> Self {
        let (n, k) = (weights.iter().map(|weight| weight.shape[0]).sum(), weights[0].shape[1]);
        let values: Vec<f32> = weights.iter().flat_map(WeightTensor::to_f32).collect();
        let weights = PackedWeights::linear(cpu.isa, cpu.precision, &values, n, k);
        Self { weights, bias: biases.map(|biases| biases.iter().flat_map(WeightTensor::to_f32).collect()) }
    }

    /// From `[2 · out, in]`, values first.
    pub(super) fn gated(cpu: &Cpu, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>) -> Self {
        let values = weight.as_f32();
        let (n, k) = (weight.shape[0], weight.shape[1]);
        let weights = PackedWeights::geglu(cpu.isa, cpu.precision, &values[..], n, k);
        Self { weights, bias: Some(bias.to_f32()) }
    }

    /// `x [b, n, in]` or the pixels of an image → the same grid with the layer's outputs.
    pub(super) fn apply(&self, cpu: &Cpu, x: &Tensor, epilogue: &Epilogue<'_, Tensor>) -> Result<Tensor, ModelError> {
        let x = cpu.joined(x);
        let input = x.matrix()?;
        let precision = cpu.kept(epilogue);
        let epilogue = finish(epilogue, self.bias.as_deref(), x.grid().rows())?;
        Ok(cpu.make(x.batch(), x.grid(), self.weights.output_columns(), precision, |out| {
            gemm(input, &self.weights, &epilogue, out);
        }))
    }
}

/// An epilogue as the kernels take it, for outputs of `rows` rows a picture.
pub(super) fn finish<'a>(
    epilogue: &Epilogue<'a, Tensor>,
    bias: Option<&'a [f32]>,
    rows: usize,
) -> Result<kernels::Epilogue<'a>, ModelError> {
    let in_f32 = |tensor: &'a Tensor| match tensor.values() {
        kernels::Values::F32(values) => Ok(values),
        kernels::Values::Bf16(_) => Err(ModelError::Compute("what is added to sums is kept in f32".into())),
    };
    let Epilogue { channel_bias, added, mut residual, .. } = *epilogue;
    let group_bias = match (channel_bias, added) {
        (None, None) => None,
        (Some(bias), None) => Some(GroupBias { values: in_f32(bias)?, rows_per_group: rows }),
        (None, Some(added)) => Some(GroupBias { values: in_f32(added)?, rows_per_group: 1 }),
        // Without an activation there is no difference.
        (Some(bias), Some(_)) if residual.is_none() && epilogue.activation == Activation::None => {
            residual = added;
            Some(GroupBias { values: in_f32(bias)?, rows_per_group: rows })
        }
        (Some(_), Some(_)) => return Err(ModelError::Compute("sums have no room for all that is added".into())),
    };
    let residual = match residual {
        None => Residual::None,
        Some(residual) => Residual::Matrix(residual.matrix()?),
    };
    let activation = match epilogue.activation {
        Activation::None => kernels::Activation::Identity,
        Activation::Silu => kernels::Activation::Silu,
        Activation::QuickGelu => kernels::Activation::QuickGelu,
    };
    Ok(kernels::Epilogue { bias, group_bias, activation, residual })
}
