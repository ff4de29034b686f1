//! The coarsest part of encoder and decoder: attention between two residual blocks.

use super::attention::PixelAttention;
use super::resnet_shape;
use crate::LoadError;
use crate::compute::{Backend, ModelError, Scope};
use crate::config::VaeConfig;
use crate::unet::resnet::ResnetBlock;

pub(super) struct MidBlock<B: Backend> {
    before: ResnetBlock<B>,
    attention: PixelAttention<B>,
    after: ResnetBlock<B>,
}

impl<B: Backend> MidBlock<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &VaeConfig) -> Result<Self, LoadError> {
        let channels = config.block_out_channels[config.block_out_channels.len() - 1];
        let shape = resnet_shape(config, channels, channels);
        Ok(Self {
            before: ResnetBlock::load(&scope.enter("resnets.0"), &shape)?,
            attention: PixelAttention::load(&scope.enter("attentions.0"), channels, config.norm_num_groups)?,
            after: ResnetBlock::load(&scope.enter("resnets.1"), &shape)?,
        })
    }

    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor, ModelError> {
        let x = self.before.forward(backend, x, None)?;
        let x = self.attention.forward(backend, &x)?;
        self.after.forward(backend, &x, None)
    }
}
