//! The autoencoder's configuration: diffusers' `AutoencoderKL`, as far as Stable Diffusion v1 has it.

use serde::Serialize;

use super::Fields;
use super::unet::{CHANNELS, LATENT_CHANNELS, LAYERS};
use crate::error::LoadError;

/// What an autoencoder of the v1 family is built from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VaeConfig {
    /// Height and width of the pictures it was trained on; 512 in v1.
    #[serde(skip)]
    pub sample_size: usize,
    /// Channels of a picture: 3.
    pub in_channels: usize,
    /// Channels of a decoded picture: 3.
    pub out_channels: usize,
    /// Channels of the latents; 4 in v1.
    pub latent_channels: usize,
    /// Channels of each resolution, the finest first; 128, 256, 512, 512 in v1.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each encoder block; the decoder's have one more. 2 in v1.
    pub layers_per_block: usize,
    /// Groups of every group normalisation; 32 in v1. Their epsilon is 1e-6.
    pub norm_num_groups: usize,
    /// What latents are multiplied by after encoding and divided by before decoding; 0.18215 in v1.
    pub scaling_factor: f64,
}

impl VaeConfig {
    /// Reads and checks `vae/config.json`.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for what v1 does not have, [`LoadError::Config`] for a value out of range.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let fields = Fields::parse(file, bytes)?;
        refuse_other_families(&fields)?;
        let block_out_channels = fields.count_list("block_out_channels", CHANNELS)?;
        let blocks = block_out_channels.len();
        for (field, known) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
            fields.words(field, blocks, &[known])?;
        }
        let config = Self {
            sample_size: fields.count("sample_size", Some(512), 1..=4096)?,
            in_channels: fields.count("in_channels", Some(3), 3..=3)?,
            out_channels: fields.count("out_channels", Some(3), 3..=3)?,
            latent_channels: fields.count("latent_channels", Some(4), LATENT_CHANNELS)?,
            layers_per_block: fields.count("layers_per_block", Some(1), LAYERS)?,
            norm_num_groups: fields.count("norm_num_groups", Some(32), 1..=1024)?,
            scaling_factor: fields.number("scaling_factor", 0.18215, 1e-6..=1e6)?,
            block_out_channels,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Checks what no field shows alone.
    pub(crate) fn check(&self, file: &str) -> Result<(), LoadError> {
        if let Some(odd) =
            self.block_out_channels.iter().find(|channels| !channels.is_multiple_of(self.norm_num_groups))
        {
            let expected = format!("multiples of the {} groups of norm_num_groups", self.norm_num_groups);
            return Err(LoadError::config(file, "block_out_channels", odd, expected));
        }
        if self.block_out_channels.len() > 6 {
            let levels = self.block_out_channels.len();
            return Err(LoadError::config(file, "block_out_channels", format!("a list of {levels}"), "1 to 6 numbers"));
        }
        Ok(())
    }

    /// Pixels along one side of a latent: 8 for four resolutions.
    #[must_use]
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

fn refuse_other_families(fields: &Fields<'_>) -> Result<(), LoadError> {
    if let Some(class) = fields.text("_class_name")?
        && class != "AutoencoderKL"
    {
        return Err(fields.unsupported("_class_name", "another network than AutoencoderKL"));
    }
    fields.never("latents_mean", "an autoencoder with shifted latents")?;
    fields.never("latents_std", "an autoencoder with shifted latents")?;
    if fields.number("shift_factor", 0.0, -1e6..=1e6)? != 0.0 {
        return Err(fields.unsupported("shift_factor", "an autoencoder with shifted latents"));
    }
    fields.only("act_fn", "silu", "another activation")?;
    fields.only("mid_block_add_attention", true, "an autoencoder without attention")?;
    fields.only("use_quant_conv", true, "an autoencoder without quant_conv")?;
    fields.only("use_post_quant_conv", true, "an autoencoder without post_quant_conv")
}
