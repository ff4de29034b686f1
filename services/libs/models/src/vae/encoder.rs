//! The encoder: residual blocks and halvings down to the latents' size.

use super::mid::MidBlock;
use super::{NORM_EPS, resnet_shape};
use crate::LoadError;
use crate::compute::{Activation, Backend, ConvGeometry, Epilogue, ModelError, Scope};
use crate::config::VaeConfig;
use crate::unet::resnet::ResnetBlock;

pub(super) struct Encoder<B: Backend> {
    pub(super) conv_in: B::Conv,
    pub(super) down_blocks: Vec<DownBlock<B>>,
    pub(super) mid_block: MidBlock<B>,
    pub(super) conv_norm_out: B::GroupNorm,
    pub(super) conv_out: B::Conv,
}

pub(super) struct DownBlock<B: Backend> {
    /// That it puts out.
    pub(super) channels: usize,
    pub(super) resnets: Vec<ResnetBlock<B>>,
    pub(super) downsampler: Option<B::Conv>,
}

impl<B: Backend> Encoder<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &VaeConfig) -> Result<Self, LoadError> {
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let same = ConvGeometry::same(3);
        Ok(Self {
            conv_in: scope.conv("conv_in", (config.in_channels, first), 3, same)?,
            down_blocks: (0..widths.len())
                .map(|level| DownBlock::load(&scope.enter("down_blocks").enter(level), config, level))
                .collect::<Result<_, _>>()?,
            mid_block: MidBlock::load(&scope.enter("mid_block"), config)?,
            conv_norm_out: scope.group_norm("conv_norm_out", last, config.norm_num_groups, NORM_EPS)?,
            conv_out: scope.conv("conv_out", (last, 2 * config.latent_channels), 3, same)?,
        })
    }

    pub(super) fn forward(&self, backend: &B, image: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let mut x = backend.conv2d(&self.conv_in, image, Epilogue::none())?;
        for block in &self.down_blocks {
            x = block.forward(backend, x)?;
        }
        let x = self.mid_block.forward(backend, &x)?;
        let x = backend.group_norm(&self.conv_norm_out, &x, Activation::Silu)?;
        backend.conv2d(&self.conv_out, &x, Epilogue::none())
    }
}

impl<B: Backend> DownBlock<B> {
    fn load(scope: &Scope<'_, B>, config: &VaeConfig, level: usize) -> Result<Self, LoadError> {
        let channels = config.block_out_channels[level];
        let before = config.block_out_channels[level.saturating_sub(1)];
        let resnet = |index: usize| {
            let inputs = if index == 0 { before } else { channels };
            ResnetBlock::load(&scope.enter("resnets").enter(index), &resnet_shape(config, inputs, channels))
        };
        let halve = || scope.conv("downsamplers.0.conv", (channels, channels), 3, ConvGeometry::halving_asymmetric());
        let is_last = level + 1 == config.block_out_channels.len();
        Ok(Self {
            channels,
            resnets: (0..config.layers_per_block).map(resnet).collect::<Result<_, _>>()?,
            downsampler: (!is_last).then(halve).transpose()?,
        })
    }

    fn forward(&self, backend: &B, mut x: B::Tensor) -> Result<B::Tensor, ModelError> {
        for resnet in &self.resnets {
            x = resnet.forward(backend, &x, None)?;
        }
        match &self.downsampler {
            Some(conv) => backend.conv2d(conv, &x, Epilogue::none()),
            None => Ok(x),
        }
    }
}
