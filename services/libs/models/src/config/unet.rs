//! The UNet's configuration: diffusers' `UNet2DConditionModel`, as far as Stable Diffusion v1 has it.

use serde::Serialize;

use super::Fields;
use crate::error::LoadError;

/// What a UNet of the v1 family is built from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UNetConfig {
    /// Height and width of the latents it was trained on; 64 in v1.
    #[serde(skip)]
    pub sample_size: usize,
    /// Channels it reads: those of the latents, 4 in v1. An inpainting UNet reads behind them a mask and a masked picture's
    /// latents: 9.
    pub in_channels: usize,
    /// Channels it predicts: those of the latents.
    pub out_channels: usize,
    /// Channels of each resolution, the finest first; 320, 640, 1280, 1280 in v1.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks a down block; the up blocks have one more. 2 in v1.
    pub layers_per_block: usize,
    /// Whether each down block has cross-attention, the finest first.
    pub down_block_attention: Vec<bool>,
    /// Whether each up block has cross-attention, the *coarsest* first, as they run.
    pub up_block_attention: Vec<bool>,
    /// Width of the text embeddings; 768 in v1.
    pub cross_attention_dim: usize,
    /// Attention heads of each resolution, the finest first; 8 everywhere in v1, whose configs call it
    /// `attention_head_dim`.
    pub num_attention_heads: Vec<usize>,
    /// Groups of every group normalisation; 32 in v1.
    pub norm_num_groups: usize,
    /// Epsilon of the group normalisations outside of the transformer blocks; 1e-5.
    pub norm_eps: f64,
    /// Whether the timestep's embedding has cosines before sines; true in v1.
    pub flip_sin_to_cos: bool,
    /// Shift in the denominator of the timestep's frequencies; 0 in v1.
    pub freq_shift: f64,
    /// Width of the guidance scale's embedding in a distilled UNet (Meng 2022, arXiv:2210.03142), which looks at the scale itself and has
    /// no unconditional half; 256 in the latent consistency models (Luo 2023, arXiv:2310.04378), none in v1.
    pub time_cond_proj_dim: Option<usize>,
}

/// The bounds of every size; v1's largest is 1280 (5120 within a feed-forward).
pub(super) const CHANNELS: std::ops::RangeInclusive<usize> = 1..=8192;
pub(super) const LAYERS: std::ops::RangeInclusive<usize> = 1..=16;
pub(super) const LATENT_CHANNELS: std::ops::RangeInclusive<usize> = 1..=64;

/// The embedding is sines and cosines at two frequencies at least.
pub(super) const GUIDANCE_CHANNELS: std::ops::RangeInclusive<usize> = 4..=8192;

pub(super) const DOWN: [&str; 2] = ["CrossAttnDownBlock2D", "DownBlock2D"];
pub(super) const UP: [&str; 2] = ["CrossAttnUpBlock2D", "UpBlock2D"];

impl UNetConfig {
    /// Reads and checks `unet/config.json`.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for what v1 does not have, [`LoadError::Config`] for a value out of range.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let fields = Fields::parse(file, bytes)?;
        refuse_other_families(&fields)?;
        let block_out_channels = fields.count_list("block_out_channels", CHANNELS)?;
        let blocks = block_out_channels.len();
        let attention = |words: Option<Vec<&str>>, kind: &str, default: Vec<bool>| {
            words.map_or(default, |words| words.iter().map(|word| *word == kind).collect())
        };
        // diffusers' own defaults: attention everywhere but at the coarsest resolution.
        let down_default: Vec<bool> = (1..=blocks).map(|block| block < blocks).collect();
        let up_default: Vec<bool> = down_default.iter().rev().copied().collect();
        let heads =
            if fields.get("num_attention_heads").is_some() { "num_attention_heads" } else { "attention_head_dim" };
        let layers = fields.counts("layers_per_block", blocks, Some(2), LAYERS)?;
        if layers.iter().any(|count| *count != layers[0]) {
            return Err(fields.wrong("layers_per_block", "the same number for every block"));
        }
        let config = Self {
            sample_size: sample_size(&fields)?,
            in_channels: fields.count("in_channels", Some(4), LATENT_CHANNELS)?,
            out_channels: fields.count("out_channels", Some(4), LATENT_CHANNELS)?,
            layers_per_block: layers[0],
            down_block_attention: attention(fields.words("down_block_types", blocks, &DOWN)?, DOWN[0], down_default),
            up_block_attention: attention(fields.words("up_block_types", blocks, &UP)?, UP[0], up_default),
            cross_attention_dim: fields.count("cross_attention_dim", Some(1280), CHANNELS)?,
            num_attention_heads: fields.counts(heads, blocks, Some(8), 1..=256)?,
            norm_num_groups: fields.count("norm_num_groups", Some(32), 1..=1024)?,
            norm_eps: fields.number("norm_eps", 1e-5, 1e-12..=1.0)?,
            flip_sin_to_cos: fields.flag("flip_sin_to_cos", true)?,
            freq_shift: fields.number("freq_shift", 0.0, 0.0..=1.0)?,
            time_cond_proj_dim: match fields.get("time_cond_proj_dim") {
                Some(_) => Some(fields.count("time_cond_proj_dim", None, GUIDANCE_CHANNELS)?),
                None => None,
            },
            block_out_channels,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Whether it reads a mask and a masked picture behind the latents.
    #[must_use]
    pub fn inpainting(&self) -> bool {
        self.in_channels == 2 * self.out_channels + 1
    }

    /// Whether it looks at the guidance scale itself, so that nothing is to be computed without the prompt.
    #[must_use]
    pub fn embeds_guidance(&self) -> bool {
        self.time_cond_proj_dim.is_some()
    }

    /// Checks what no field shows alone: that channels divide into groups and heads, and that the channels are v1's kind.
    pub(crate) fn check(&self, file: &str) -> Result<(), LoadError> {
        let (read, predicted) = (self.in_channels, self.out_channels);
        if read != predicted && !self.inpainting() {
            let expected = format!("{predicted}, as out_channels, or {} for inpainting", 2 * predicted + 1);
            return Err(LoadError::config(file, "in_channels", read, expected));
        }
        if let Some(odd) =
            self.block_out_channels.iter().find(|channels| !channels.is_multiple_of(self.norm_num_groups))
        {
            let expected = format!("multiples of the {} groups of norm_num_groups", self.norm_num_groups);
            return Err(LoadError::config(file, "block_out_channels", odd, expected));
        }
        for (channels, heads) in self.block_out_channels.iter().zip(&self.num_attention_heads) {
            if !channels.is_multiple_of(*heads) {
                let expected = format!("multiples of the {heads} attention heads");
                return Err(LoadError::config(file, "block_out_channels", channels, expected));
            }
        }
        // The timestep's embedding is half sines and half cosines.
        if !self.block_out_channels[0].is_multiple_of(2) {
            return Err(LoadError::config(
                file,
                "block_out_channels",
                self.block_out_channels[0],
                "an even first number",
            ));
        }
        if let Some(odd) = self.time_cond_proj_dim.filter(|width| !width.is_multiple_of(2)) {
            return Err(LoadError::config(file, "time_cond_proj_dim", odd, "an even number"));
        }
        Ok(())
    }
}

fn sample_size(fields: &Fields<'_>) -> Result<usize, LoadError> {
    // Some folders give height and width; only square ones name a default size.
    let square = fields.counts("sample_size", 2, Some(64), 1..=256)?;
    if square[0] == square[1] { Ok(square[0]) } else { Err(fields.wrong("sample_size", "equal height and width")) }
}

fn refuse_other_families(fields: &Fields<'_>) -> Result<(), LoadError> {
    if let Some(class) = fields.text("_class_name")?
        && class != "UNet2DConditionModel"
    {
        return Err(fields.unsupported("_class_name", "another network than UNet2DConditionModel"));
    }
    fields.never("addition_embed_type", "a UNet of Stable Diffusion XL")?;
    fields.never("encoder_hid_dim_type", "a UNet with projected image or text conditions")?;
    fields.never("encoder_hid_dim", "a UNet with projected image or text conditions")?;
    fields.never("class_embed_type", "a UNet with class embeddings")?;
    fields.never("num_class_embeds", "a UNet with class embeddings")?;
    fields.never("time_embedding_act_fn", "another time embedding")?;
    fields.never("timestep_post_act", "another time embedding")?;
    fields.never("cross_attention_norm", "normalised cross-attention")?;
    fields.never("time_embedding_dim", "another time embedding")?;
    fields.never("reverse_transformer_layers_per_block", "several transformer layers a block")?;
    fields.only("use_linear_projection", false, "a UNet of Stable Diffusion 2")?;
    fields.only("upcast_attention", false, "a UNet of Stable Diffusion 2.1")?;
    fields.only("dual_cross_attention", false, "dual cross-attention")?;
    fields.only("center_input_sample", false, "a centred input")?;
    fields.only("resnet_skip_time_act", false, "another residual block")?;
    fields.only("act_fn", "silu", "another activation")?;
    fields.only("mid_block_type", "UNetMidBlock2DCrossAttn", "another middle block")?;
    fields.only("resnet_time_scale_shift", "default", "another residual block")?;
    fields.only("time_embedding_type", "positional", "another time embedding")?;
    fields.only("attention_type", "default", "gated attention")?;
    fields.only("conv_in_kernel", 3, "another first convolution")?;
    fields.only("conv_out_kernel", 3, "another last convolution")?;
    fields.only("downsample_padding", 1, "another downsampling")?;
    one_everywhere(fields, "mid_block_scale_factor", "another scale of the middle block")?;
    one_everywhere(fields, "resnet_out_scale_factor", "another scale of the residual blocks")?;
    one_everywhere(
        fields,
        "transformer_layers_per_block",
        "several transformer layers a block, as in Stable Diffusion XL",
    )?;
    for field in ["only_cross_attention", "mid_block_only_cross_attention"] {
        let asked = fields.get(field).is_some_and(|value| value.to_string().contains("true"));
        if asked {
            return Err(fields.unsupported(field, "a UNet without self-attention"));
        }
    }
    Ok(())
}

/// Refuses a number, or a list of numbers, that holds anything but one (written as 1 or 1.0).
fn one_everywhere(fields: &Fields<'_>, field: &str, feature: &str) -> Result<(), LoadError> {
    let one = |value: &serde_json::Value| value.as_f64() == Some(1.0);
    match fields.get(field) {
        None => Ok(()),
        Some(serde_json::Value::Array(list)) if list.iter().all(one) => Ok(()),
        Some(value) if one(value) => Ok(()),
        Some(_) => Err(fields.unsupported(field, feature)),
    }
}
