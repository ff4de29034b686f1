//! One resolution on the way up: residual blocks that each take in a skip connection, transformers where the configuration
//! has them, and an enlargement.

use super::resnet::{ResnetBlock, ResnetShape};
use super::text::TextProjections;
use super::time::time_channels;
use super::transformer::Transformer;
use super::{Conditions, no_skip};
use crate::LoadError;
use crate::compute::{Backend, ConvGeometry, ModelError, Scope};
use crate::config::UNetConfig;
use crate::lora::Adapted;

pub(super) struct UpBlock<B: Backend> {
    layers: Vec<(ResnetBlock<B>, Option<Transformer<B>>)>,
    upsampler: Option<Adapted<B::Conv>>,
}

impl<B: Backend> UpBlock<B> {
    /// The `index`-th block to run, 0 being the coarsest.
    pub(super) fn load(
        root: &Scope<'_, B>,
        config: &UNetConfig,
        index: usize,
        text: &mut TextProjections<B>,
    ) -> Result<Self, LoadError> {
        let scope = root.enter("up_blocks").enter(index);
        let widths = &config.block_out_channels;
        let level = widths.len() - 1 - index;
        let channels = widths[level];
        // What comes up from the block below, and what the skips of this level carry: the level's own width, but for the
        // last, which was made before the down block widened it.
        let below = widths[(level + 1).min(widths.len() - 1)];
        let narrowest_skip = widths[level.saturating_sub(1)];
        let count = config.layers_per_block + 1;
        let mut layer = |position: usize| {
            let from_below = if position == 0 { below } else { channels };
            let skip = if position + 1 == count { narrowest_skip } else { channels };
            let shape = ResnetShape {
                inputs: from_below + skip,
                outputs: channels,
                time: Some(time_channels(config)),
                groups: config.norm_num_groups,
                eps: config.norm_eps,
                coarse: index == 0,
            };
            let resnet = ResnetBlock::load(&scope.enter("resnets").enter(position), &shape)?;
            let transformer = if config.up_block_attention[index] {
                let scope = scope.enter("attentions").enter(position);
                let heads = config.num_attention_heads[level];
                Some(Transformer::load(&scope, channels, heads, config.norm_num_groups, text)?)
            } else {
                None
            };
            Ok((resnet, transformer))
        };
        let layers = (0..count).map(&mut layer).collect::<Result<_, LoadError>>()?;
        let size = (channels, channels);
        let enlarge = || Adapted::conv(&scope, "upsamplers.0.conv", size, 3, ConvGeometry::upsampled());
        Ok(Self { layers, upsampler: (level > 0).then(enlarge).transpose()? })
    }

    /// Takes in as many of `skips`, from the last, as there are layers. The enlargement is to the size of the next skip: where
    /// a size is odd, halving rounded up and doubling would not meet it.
    pub(super) fn forward(
        &self,
        backend: &B,
        mut x: B::Tensor,
        skips: &mut Vec<B::Tensor>,
        conditions: &Conditions<'_, B>,
    ) -> Result<B::Tensor, ModelError> {
        for (resnet, transformer) in &self.layers {
            let skip = skips.pop().ok_or_else(no_skip)?;
            x = resnet.forward(backend, &backend.concat_channels(&x, &skip)?, Some(conditions))?;
            if let Some(transformer) = transformer {
                x = transformer.forward(backend, &x, conditions)?;
            }
        }
        match &self.upsampler {
            Some(conv) => {
                let size = backend.image_size(skips.last().ok_or_else(no_skip)?)?;
                conditions.updates.upsample_conv2d(backend, conv, &x, size)
            }
            None => Ok(x),
        }
    }
}
