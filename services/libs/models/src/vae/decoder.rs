//! The decoder: residual blocks and doublings up to the picture's size.

use super::mid::MidBlock;
use super::{NORM_EPS, resnet_shape};
use crate::LoadError;
use crate::compute::{Activation, Backend, ConvGeometry, Epilogue, ModelError, Scope};
use crate::config::VaeConfig;
use crate::unet::resnet::ResnetBlock;

pub(super) struct Decoder<B: Backend> {
    pub(super) conv_in: B::Conv,
    pub(super) mid_block: MidBlock<B>,
    pub(super) up_blocks: Vec<UpBlock<B>>,
    pub(super) conv_norm_out: B::GroupNorm,
    pub(super) conv_out: B::Conv,
}

pub(super) struct UpBlock<B: Backend> {
    /// That it puts out.
    pub(super) channels: usize,
    pub(super) resnets: Vec<ResnetBlock<B>>,
    pub(super) upsampler: Option<B::Conv>,
}

impl<B: Backend> Decoder<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &VaeConfig) -> Result<Self, LoadError> {
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let same = ConvGeometry::same(3);
        Ok(Self {
            conv_in: scope.conv("conv_in", (config.latent_channels, last), 3, same)?,
            mid_block: MidBlock::load(&scope.enter("mid_block"), config)?,
            up_blocks: (0..widths.len())
                .map(|index| UpBlock::load(&scope.enter("up_blocks").enter(index), config, index))
                .collect::<Result<_, _>>()?,
            conv_norm_out: scope.group_norm("conv_norm_out", first, config.norm_num_groups, NORM_EPS)?,
            conv_out: scope.conv("conv_out", (first, config.out_channels), 3, same)?,
        })
    }

    pub(super) fn forward(&self, backend: &B, latents: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let x = backend.conv2d(&self.conv_in, latents, Epilogue::none())?;
        let mut x = self.mid_block.forward(backend, &x)?;
        for block in &self.up_blocks {
            x = block.forward(backend, x)?;
        }
        let x = backend.group_norm(&self.conv_norm_out, &x, Activation::Silu)?;
        backend.conv2d(&self.conv_out, &x, Epilogue::none())
    }
}

impl<B: Backend> UpBlock<B> {
    /// The `index`-th block to run, 0 being the coarsest.
    fn load(scope: &Scope<'_, B>, config: &VaeConfig, index: usize) -> Result<Self, LoadError> {
        let widths = &config.block_out_channels;
        let level = widths.len() - 1 - index;
        let channels = widths[level];
        let below = widths[(level + 1).min(widths.len() - 1)];
        let resnet = |position: usize| {
            let inputs = if position == 0 { below } else { channels };
            ResnetBlock::load(&scope.enter("resnets").enter(position), &resnet_shape(config, inputs, channels))
        };
        let enlarge = || scope.conv("upsamplers.0.conv", (channels, channels), 3, ConvGeometry::upsampled());
        Ok(Self {
            channels,
            resnets: (0..=config.layers_per_block).map(resnet).collect::<Result<_, _>>()?,
            upsampler: (level > 0).then(enlarge).transpose()?,
        })
    }

    fn forward(&self, backend: &B, mut x: B::Tensor) -> Result<B::Tensor, ModelError> {
        for resnet in &self.resnets {
            x = resnet.forward(backend, &x, None)?;
        }
        match &self.upsampler {
            Some(conv) => {
                let (height, width) = backend.image_size(&x)?;
                backend.upsample_conv2d(conv, &x, (2 * height, 2 * width), Epilogue::none())
            }
            None => Ok(x),
        }
    }
}
