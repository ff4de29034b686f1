//! The bottom of the U: a transformer between two residual blocks, at the coarsest resolution.

use super::Conditions;
use super::resnet::{ResnetBlock, ResnetShape};
use super::text::TextProjections;
use super::time::time_channels;
use super::transformer::Transformer;
use crate::LoadError;
use crate::compute::{Backend, ModelError, Scope};
use crate::config::UNetConfig;

pub(super) struct MidBlock<B: Backend> {
    before: ResnetBlock<B>,
    transformer: Transformer<B>,
    after: ResnetBlock<B>,
}

impl<B: Backend> MidBlock<B> {
    pub(super) fn load(
        scope: &Scope<'_, B>,
        config: &UNetConfig,
        text: &mut TextProjections<B>,
    ) -> Result<Self, LoadError> {
        let coarsest = config.block_out_channels.len() - 1;
        let channels = config.block_out_channels[coarsest];
        let heads = config.num_attention_heads[coarsest];
        let groups = config.norm_num_groups;
        let shape = ResnetShape {
            inputs: channels,
            outputs: channels,
            time: Some(time_channels(config)),
            groups,
            eps: config.norm_eps,
            coarse: true,
        };
        Ok(Self {
            before: ResnetBlock::load(&scope.enter("resnets.0"), &shape)?,
            transformer: Transformer::load(&scope.enter("attentions.0"), channels, heads, groups, text)?,
            after: ResnetBlock::load(&scope.enter("resnets.1"), &shape)?,
        })
    }

    pub(super) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        conditions: &Conditions<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        let x = self.before.forward(backend, x, Some(conditions))?;
        let x = self.transformer.forward(backend, &x, conditions)?;
        self.after.forward(backend, &x, Some(conditions))
    }
}
