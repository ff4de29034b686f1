//! Convolutions on the CPU, and which algorithm serves which layer.
//!
//! A pixel-wise one is a linear layer. A 3×3 one that keeps or doubles the size goes by Winograd's transforms, whose weights take more
//! memory; the others, and those that would gain little, are implicit products over windows.

use darkroom_kernels::{
    self as kernels, Image, MatrixMut, PackedWeights, Precision, Tiles, Window, WinogradWeights, conv2d, winograd,
};

use super::linear::finish;
use super::tensor::Grid;
use super::{Cpu, Linear, Tensor};
use crate::compute::{ConvGeometry, Epilogue, Margins, ModelError};
use crate::weights::WeightTensor;

/// Fewer channels than this, in or out, and the transforms cost more than the products that they save.
const LEAST_CHANNELS: usize = 64;
/// With fewer channels than this, in or out, a layer is the network's first or last: its error is the whole network's, and f32
/// costs it nothing.
const EXACT_BELOW: usize = 16;

/// A packed convolution.
pub struct Conv(Kind);

enum Kind {
    /// 1×1.
    Point(Linear),
    Window(Windowed),
}

/// A convolution that sees more than one pixel.
struct Windowed {
    weights: Weights,
    bias: Vec<f32>,
    window: Window,
    upsampled: bool,
}

enum Weights {
    Direct(PackedWeights),
    Winograd(WinogradWeights),
}

impl Conv {
    /// From `[out, in, k, k]`.
    pub(super) fn new(cpu: &Cpu, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>, geometry: ConvGeometry) -> Self {
        let (outputs, inputs, kernel) = (weight.shape[0], weight.shape[1], weight.shape[2]);
        let ConvGeometry { stride, padding, upsampled, coarse } = geometry;
        if kernel == 1 && stride == 1 {
            return Self(Kind::Point(Linear::new(cpu, weight, Some(bias))));
        }
        let values = weight.as_f32();
        let slides = kernel == 3 && stride == 1 && padding == ConvGeometry::same(3).padding;
        let gains = slides && inputs.min(outputs) >= LEAST_CHANNELS;
        let tiles = match cpu.precision {
            _ if gains && upsampled => Some(Tiles::Doubled),
            _ if !gains => None,
            // In bf16 larger tiles would round too much. Weights for them take four times the memory of the layer's own, and over a coarse
            // image reading those takes the time that they save.
            Precision::F32 if !coarse => Some(Tiles::Four),
            Precision::F32 | Precision::Bf16 => Some(Tiles::Two),
        };
        let weights = match tiles {
            Some(tiles) => {
                let channels = &[inputs];
                Weights::Winograd(WinogradWeights::new(cpu.isa, cpu.precision, &values[..], outputs, channels, tiles))
            }
            None => {
                let precision = if inputs.min(outputs) < EXACT_BELOW { Precision::F32 } else { cpu.precision };
                Weights::Direct(PackedWeights::conv(cpu.isa, precision, &values[..], outputs, &[inputs], kernel))
            }
        };
        let window = Window { kernel, stride, before: padding.before, after: padding.after, upsample: None };
        Self(Kind::Window(Windowed { weights, bias: bias.to_f32(), window, upsampled }))
    }

    /// What is between the margins of a band, first enlarged to twice its size where the layer is an upsampling one.
    pub(super) fn apply_to_band(
        &self,
        cpu: &Cpu,
        x: &Tensor,
        margins: Margins,
        epilogue: &Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        let (height, width) = x.size()?;
        let padding = match &self.0 {
            Kind::Point(_) => Margins::default(),
            Kind::Window(Windowed { window, .. }) => Margins { above: window.before, below: window.after },
        };
        let fit = margins.above <= padding.above && margins.below <= padding.below;
        match height.checked_sub(margins.above + margins.below) {
            Some(rows) if fit && rows > 0 => self.apply(cpu, x, (2 * rows, 2 * width), margins, epilogue),
            _ => Err(ModelError::Compute(format!("a band of {height} rows has no {margins:?} beside rows of its own"))),
        }
    }

    /// An image, first enlarged to `size` where the layer is an upsampling one. Margins do not count in sizes.
    pub(super) fn apply(
        &self,
        cpu: &Cpu,
        x: &Tensor,
        size: (usize, usize),
        margins: Margins,
        epilogue: &Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        let windowed = match &self.0 {
            Kind::Point(linear) => return linear.apply(cpu, x, epilogue),
            Kind::Window(windowed) => windowed,
        };
        let x = cpu.joined(x);
        let images: Vec<Image<'_>> =
            x.images().into_iter().map(|image| image.within(margins.above, margins.below)).collect();
        let (height, width) = x.size()?;
        let height = height - margins.above - margins.below;
        let window = Window { upsample: windowed.upsampled.then_some([size.0, size.1]), ..windowed.window };
        let [rows, cols] = window.output([height, width]);
        let precision = cpu.kept(epilogue);
        let epilogue = finish(epilogue, Some(&windowed.bias), rows * cols)?;
        let channels = windowed.bias.len();
        Ok(cpu.make(x.batch(), Grid::Image(rows, cols), channels, precision, |out| {
            windowed.weights.apply(&images, window, [rows, cols], &epilogue, out);
        }))
    }
}

impl Weights {
    fn apply(
        &self,
        images: &[Image<'_>],
        window: Window,
        size: [usize; 2],
        epilogue: &kernels::Epilogue<'_>,
        out: &mut MatrixMut<'_>,
    ) {
        match self {
            Self::Direct(weights) => conv2d(images, weights, window, epilogue, out),
            Self::Winograd(weights) => winograd(images, weights, size, epilogue, out),
        }
    }
}
