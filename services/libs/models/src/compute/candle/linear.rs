//! The linear layer on candle.

use candle_core::{Result, Tensor};

/// A linear layer's weight, transposed to `[in, out]` as a view, and its bias.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// From `[out, in]`, or a 1×1 convolution's `[out, in, 1, 1]`.
    pub(super) fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let outputs = weight.dim(0)?;
        Ok(Self { weight: weight.reshape((outputs, ()))?.t()?, bias })
    }

    /// `[b, n, in]` → `[b, n, out]`, as one product over all tokens, without the bias.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        x.reshape((batch * count, width))?.matmul(&self.weight)?.reshape((batch, count, ()))
    }
}
