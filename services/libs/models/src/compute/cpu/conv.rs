//! Convolutions on the CPU: a pixel-wise one is a linear layer, the others are implicit products over windows.

use darkroom_kernels::{PackedWeights, Precision, Window, conv2d};

use super::linear::finish;
use super::tensor::Grid;
use super::{Cpu, Linear, Tensor};
use crate::compute::{ConvGeometry, Epilogue, ModelError};
use crate::weights::WeightTensor;

/// A packed convolution.
pub struct Conv(Kind);

enum Kind {
    /// 1×1.
    Point(Linear),
    /// Any other.
    Direct { weights: PackedWeights, bias: Vec<f32>, window: Window, upsampled: bool },
}

impl Conv {
    /// From `[out, in, k, k]`.
    pub(super) fn new(cpu: &Cpu, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>, geometry: ConvGeometry) -> Self {
        let (outputs, inputs, kernel) = (weight.shape[0], weight.shape[1], weight.shape[2]);
        let ConvGeometry { stride, padding, upsampled } = geometry;
        if kernel == 1 && stride == 1 {
            return Self(Kind::Point(Linear::new(cpu, weight, Some(bias))));
        }
        let window = Window { kernel, stride, before: padding.before, after: padding.after, upsample: None };
        let values = weight.as_f32();
        let weights = PackedWeights::conv(cpu.isa, cpu.precision, &values[..], outputs, &[inputs], kernel);
        Self(Kind::Direct { weights, bias: bias.to_f32(), window, upsampled })
    }

    /// An image, first enlarged to `size` where the layer is an upsampling one.
    pub(super) fn apply(
        &self,
        cpu: &Cpu,
        x: &Tensor,
        size: (usize, usize),
        epilogue: &Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        match &self.0 {
            Kind::Point(linear) => linear.apply(cpu, x, epilogue, Precision::F32),
            Kind::Direct { weights, bias, window, upsampled } => {
                let x = cpu.joined(x);
                let window = Window { upsample: upsampled.then_some([size.0, size.1]), ..*window };
                let [height, width] = window.output([x.size()?.0, x.size()?.1]);
                let epilogue = finish(epilogue, Some(bias), height * width)?;
                let grid = Grid::Image(height, width);
                Ok(cpu.make(x.batch(), grid, weights.output_columns(), Precision::F32, |out| {
                    conv2d(&x.images(), weights, window, &epilogue, out);
                }))
            }
        }
    }
}
