//! Convolution on candle.

use candle_core::{Result, Tensor};

use crate::compute::{ConvGeometry, Margins};

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

    /// As [`Conv::apply`] between the margins of a band, which take the place of padding; enlarged to twice its size first where that is
    /// the layer's way.
    pub(super) fn apply_to_band(&self, x: &Tensor, margins: Margins) -> Result<Tensor> {
        let ConvGeometry { stride, padding, upsampled, .. } = self.geometry;
        if margins.above > padding.before || margins.below > padding.after {
            candle_core::bail!("a convolution with {padding:?} has no {margins:?}");
        }
        let mut x = x.contiguous()?;
        if upsampled {
            let (_, _, height, width) = x.dims4()?;
            x = x.upsample_nearest2d(2 * height, 2 * width)?;
            // Every row of a margin has become two, and the band's own windows see the nearer one.
            let (above, below) = (margins.above, margins.below);
            x = x.narrow(2, above, 2 * height - above - below)?;
        }
        let x = x.pad_with_zeros(2, padding.before - margins.above, padding.after - margins.below)?;
        x.pad_with_zeros(3, padding.before, padding.after)?.conv2d(&self.weight, 0, stride, 1, 1)
    }
}
