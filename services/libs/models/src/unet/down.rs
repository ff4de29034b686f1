//! One resolution on the way down: residual blocks, transformers where the configuration has them, and a halving.

use super::resnet::{ResnetBlock, ResnetShape};
use super::text::TextProjections;
use super::time::time_channels;
use super::transformer::Transformer;
use super::{Conditions, no_skip};
use crate::LoadError;
use crate::compute::{Backend, ConvGeometry, Epilogue, ModelError, Scope};
use crate::config::UNetConfig;
use crate::lora::Adapted;

pub(super) struct DownBlock<B: Backend> {
    layers: Vec<(ResnetBlock<B>, Option<Transformer<B>>)>,
    downsampler: Option<Adapted<B::Conv>>,
}

impl<B: Backend> DownBlock<B> {
    /// The block of resolution `level`, 0 being the finest.
    pub(super) fn load(
        root: &Scope<'_, B>,
        config: &UNetConfig,
        level: usize,
        text: &mut TextProjections<B>,
    ) -> Result<Self, LoadError> {
        let scope = root.enter("down_blocks").enter(level);
        let channels = config.block_out_channels[level];
        let before = config.block_out_channels[level.saturating_sub(1)];
        let is_last = level + 1 == config.block_out_channels.len();
        let mut layer = |index: usize| {
            let shape = ResnetShape {
                inputs: if index == 0 { before } else { channels },
                outputs: channels,
                time: Some(time_channels(config)),
                groups: config.norm_num_groups,
                eps: config.norm_eps,
                coarse: is_last,
            };
            let resnet = ResnetBlock::load(&scope.enter("resnets").enter(index), &shape)?;
            let transformer = if config.down_block_attention[level] {
                let scope = scope.enter("attentions").enter(index);
                let heads = config.num_attention_heads[level];
                Some(Transformer::load(&scope, channels, heads, config.norm_num_groups, text)?)
            } else {
                None
            };
            Ok((resnet, transformer))
        };
        let layers = (0..config.layers_per_block).map(&mut layer).collect::<Result<_, LoadError>>()?;
        let size = (channels, channels);
        let halve = || Adapted::conv(&scope, "downsamplers.0.conv", size, 3, ConvGeometry::halving());
        Ok(Self { layers, downsampler: (!is_last).then(halve).transpose()? })
    }

    /// Goes on from the last of `skips`, and pushes what each layer and the halving make of it.
    pub(super) fn forward(
        &self,
        backend: &B,
        skips: &mut Vec<B::Tensor>,
        conditions: &Conditions<'_, B>,
    ) -> Result<(), ModelError> {
        for (resnet, transformer) in &self.layers {
            let mut x = resnet.forward(backend, skips.last().ok_or_else(no_skip)?, Some(conditions))?;
            if let Some(transformer) = transformer {
                x = transformer.forward(backend, &x, conditions)?;
            }
            skips.push(x);
        }
        if let Some(conv) = &self.downsampler {
            let x = skips.last().ok_or_else(no_skip)?;
            let x = conditions.updates.conv2d(backend, conv, x, Epilogue::none())?;
            skips.push(x);
        }
        Ok(())
    }
}
