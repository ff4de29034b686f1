//! Convolution on candle.

use candle_core::{Result, Tensor};

use crate::compute::ConvGeometry;

/// A convolution's weight `[out, in, k, k]` and bias, with its geometry.
#[derive(Debug)]
pub struct Conv {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) geometry: ConvGeometry,
}

impl Conv {
    /// Without the bias, which is added where the epilogue is.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let ConvGeometry { stride, padding, .. } = self.geometry;
        // candle pads all sides alike; the margin that only some sides have is added by hand.
        let common = padding.before.min(padding.after);
        let (before, after) = (padding.before - common, padding.after - common);
        let x = x.contiguous()?.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
        x.conv2d(&self.weight, common, stride, 1, 1)
    }
}
