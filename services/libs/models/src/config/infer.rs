//! Configurations of single files, which carry none: widths and depths from the tensors' shapes, the rest as v1 has it.
//!
//! Only names and shapes are read. What the shapes leave open is v1's: 8 heads in the UNet, 64 channels a head in CLIP, 32
//! groups, the latents' scale. A contradiction shows when the network asks for its tensors.

use std::ops::RangeInclusive;

use super::unet::{CHANNELS, GUIDANCE_CHANNELS, LATENT_CHANNELS, LAYERS};
use super::{ClipConfig, UNetConfig, VaeConfig};
use crate::error::LoadError;
use crate::weights::Weights;

/// The most blocks that are looked for.
const MAX_BLOCKS: usize = 16;

impl UNetConfig {
    /// The configuration that the UNet's tensors have been shaped by.
    pub(crate) fn infer(weights: &Weights) -> Result<Self, LoadError> {
        let shapes = Shapes(weights);
        shapes.refuse_other_unets()?;
        let block = |side: &str, index: usize| format!("{side}_blocks.{index}");
        let blocks = count(MAX_BLOCKS, |index| shapes.has(&format!("down_blocks.{index}.resnets.0.conv1.weight")));
        let block_out_channels = (0..blocks)
            .map(|index| shapes.size(&format!("down_blocks.{index}.resnets.0.conv1.weight"), 0, CHANNELS))
            .collect::<Result<Vec<_>, _>>()?;
        if block_out_channels.is_empty() {
            return Err(shapes.missing("down_blocks.0.resnets.0.conv1.weight"));
        }
        let layers = count(*LAYERS.end(), |layer| shapes.has(&format!("down_blocks.0.resnets.{layer}.conv1.weight")));
        let attends =
            |side: &str, index: usize| shapes.has(&format!("{}.attentions.0.norm.weight", block(side, index)));
        // The middle block always has attention.
        let text = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";
        let guidance = "time_embedding.cond_proj.weight";
        let config = Self {
            sample_size: 64,
            in_channels: shapes.size("conv_in.weight", 1, LATENT_CHANNELS)?,
            out_channels: shapes.size("conv_out.weight", 0, LATENT_CHANNELS)?,
            layers_per_block: layers,
            down_block_attention: (0..blocks).map(|index| attends("down", index)).collect(),
            up_block_attention: (0..blocks).map(|index| attends("up", index)).collect(),
            cross_attention_dim: shapes.size(text, 1, CHANNELS)?,
            num_attention_heads: vec![8; blocks],
            norm_num_groups: 32,
            norm_eps: 1e-5,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            time_cond_proj_dim: match shapes.has(guidance) {
                true => Some(shapes.size(guidance, 1, GUIDANCE_CHANNELS)?),
                false => None,
            },
            block_out_channels,
        };
        config.check(weights.file())?;
        Ok(config)
    }
}

impl VaeConfig {
    /// The configuration that the autoencoder's tensors have been shaped by.
    pub(crate) fn infer(weights: &Weights) -> Result<Self, LoadError> {
        let shapes = Shapes(weights);
        let first = |index: usize| format!("encoder.down_blocks.{index}.resnets.0.conv1.weight");
        let blocks = count(MAX_BLOCKS, |index| shapes.has(&first(index)));
        if blocks == 0 {
            return Err(shapes.missing(&first(0)));
        }
        let channels = (0..blocks).map(|index| shapes.size(&first(index), 0, CHANNELS)).collect::<Result<_, _>>()?;
        let layer = |index: usize| format!("encoder.down_blocks.0.resnets.{index}.conv1.weight");
        let config = Self {
            sample_size: 512,
            in_channels: shapes.size("encoder.conv_in.weight", 1, 3..=3)?,
            out_channels: shapes.size("decoder.conv_out.weight", 0, 3..=3)?,
            latent_channels: shapes.size("decoder.conv_in.weight", 1, LATENT_CHANNELS)?,
            block_out_channels: channels,
            layers_per_block: count(*LAYERS.end(), |index| shapes.has(&layer(index))),
            norm_num_groups: 32,
            scaling_factor: 0.18215,
        };
        config.check(weights.file())?;
        Ok(config)
    }
}

impl ClipConfig {
    /// The configuration that the text tower's tensors have been shaped by.
    pub(crate) fn infer(weights: &Weights) -> Result<Self, LoadError> {
        let shapes = Shapes(weights);
        let hidden_size = shapes.size("embeddings.token_embedding.weight", 1, 64..=*CHANNELS.end())?;
        if !hidden_size.is_multiple_of(64) {
            let expected = "a multiple of 64, the width of CLIP's attention heads";
            return Err(LoadError::config(weights.file(), "hidden_size", hidden_size, expected));
        }
        let layer = |index: usize| format!("encoder.layers.{index}.mlp.fc1.weight");
        let layers = count(64, |index| shapes.has(&layer(index)));
        Ok(Self {
            vocab_size: shapes.size("embeddings.token_embedding.weight", 0, 3..=1_000_000)?,
            hidden_size,
            intermediate_size: shapes.size(&layer(0), 0, 1..=32_768)?,
            num_hidden_layers: layers,
            num_attention_heads: hidden_size / 64,
            max_position_embeddings: shapes.size("embeddings.position_embedding.weight", 0, 3..=1024)?,
            layer_norm_eps: 1e-5,
        })
    }
}

/// The first index, up to `most`, that `has` denies.
fn count(most: usize, has: impl Fn(usize) -> bool) -> usize {
    (0..most).find(|index| !has(*index)).unwrap_or(most)
}

struct Shapes<'a>(&'a Weights);

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// One dimension of a tensor that the architecture cannot be without.
    fn size(&self, name: &str, dimension: usize, range: RangeInclusive<usize>) -> Result<usize, LoadError> {
        let shape = self.0.shape(name).ok_or_else(|| self.missing(name))?;
        let size = shape.get(dimension).copied().filter(|size| range.contains(size));
        size.ok_or_else(|| {
            let expected = format!("{} to {} in dimension {dimension}", range.start(), range.end());
            LoadError::config(self.0.file(), &format!("the shape of {name}"), format!("{shape:?}"), expected)
        })
    }

    fn missing(&self, name: &str) -> LoadError {
        LoadError::incomplete(self.0.file(), format!("has no tensor {name}, from which its sizes would be read"))
    }

    /// Finds what later families have and no configuration tells here.
    fn refuse_other_unets(&self) -> Result<(), LoadError> {
        let refuse = |what: &str| {
            Err(LoadError::unsupported(self.0.file(), format!("{what}; Darkroom runs Stable Diffusion v1")))
        };
        if self.0.shape("mid_block.attentions.0.proj_in.weight").is_some_and(|shape| shape.len() == 2) {
            return refuse("a UNet of Stable Diffusion 2 (its attention projects linearly)");
        }
        if self.has("mid_block.attentions.0.transformer_blocks.1.norm1.weight") {
            return refuse("a UNet with several transformer layers a block, as in Stable Diffusion XL");
        }
        Ok(())
    }
}
