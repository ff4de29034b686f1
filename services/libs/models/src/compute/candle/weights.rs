//! Weights on their way from a file to a device.

use candle_core::{Result, Tensor};

use super::Candle;
use crate::compute::ModelError;
use crate::weights::WeightTensor;

impl Candle {
    /// The tensor in the precision of the activations.
    pub(super) fn weight(&self, tensor: &WeightTensor<'_>) -> std::result::Result<Tensor, ModelError> {
        Ok(self.upload(tensor)?.to_dtype(self.dtype)?)
    }

    /// The tensor in f32, for normalisations.
    pub(super) fn weight_f32(&self, tensor: &WeightTensor<'_>) -> std::result::Result<Tensor, ModelError> {
        Ok(self.upload(tensor)?)
    }

    fn upload(&self, tensor: &WeightTensor<'_>) -> Result<Tensor> {
        Tensor::from_vec(tensor.to_f32(), tensor.shape.as_slice(), &self.device)
    }
}

/// A linear layer's weight, transposed to `[in, out]` as a view, and its bias.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From `[out, in]`, or a 1×1 convolution's `[out, in, 1, 1]`.
    pub(super) fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let outputs = weight.dim(0)?;
        Ok(Self { weight: weight.reshape((outputs, ()))?.t()?, bias })
    }

    /// `[b, n, in]` → `[b, n, out]`, as one product over all tokens.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        let y = x.reshape((batch * count, width))?.matmul(&self.weight)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape((batch, count, ()))
    }
}
