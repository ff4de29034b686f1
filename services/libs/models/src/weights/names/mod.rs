//! From the names that tensors have had to the ones that diffusers and transformers give them today.
//!
//! The correspondence is that of the modules themselves: CompVis' `ldm/modules/diffusionmodules/openaimodel.py` and
//! `model.py` against diffusers' `unet_2d_condition.py` and `autoencoder_kl.py`; it holds for any depth and width.

mod autoencoder;
mod extras;
mod text;
mod unet;

use super::{Part, Stored};

pub(super) use extras::is_known_extra;
pub(super) use unet::{ema_name, layers_per_block};

/// Today's name of a tensor in a diffusers folder: new or old there.
pub(super) fn from_diffusers(part: Part, name: &str) -> String {
    match part {
        Part::Unet => name.to_owned(),
        Part::Vae => autoencoder::from_older(name),
        Part::TextEncoder => text::without_prefix(name).to_owned(),
    }
}

/// Part and today's name of a tensor with its CompVis name; `None` for what is no part's.
pub(super) fn from_compvis(name: &str, sizes: Sizes) -> Option<(Part, String)> {
    if let Some(name) = name.strip_prefix("model.diffusion_model.") {
        return unet::from_compvis(name, sizes.unet_layers).map(|name| (Part::Unet, name));
    }
    if let Some(name) = name.strip_prefix("first_stage_model.") {
        return autoencoder::from_compvis(name, sizes.vae_levels).map(|name| (Part::Vae, name));
    }
    let name = name.strip_prefix("cond_stage_model.transformer.")?;
    Some((Part::TextEncoder, text::without_prefix(name).to_owned()))
}

/// What CompVis' names leave open: where a block ends, and which way the decoder counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Residual blocks a down block of the UNet.
    pub(super) unet_layers: usize,
    /// Resolutions of the autoencoder.
    pub(super) vae_levels: usize,
}

impl Sizes {
    /// Reads them off the names themselves.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let unet = names.clone().filter_map(|name| name.strip_prefix("model.diffusion_model."));
        let vae = names.filter_map(|name| name.strip_prefix("first_stage_model."));
        Self { unet_layers: layers_per_block(unet), vae_levels: autoencoder::levels(vae) }
    }
}

/// The autoencoder's attention is linear layers today; older files have 1×1 convolutions there.
pub(super) fn reshaped(part: Part, name: &str, stored: Stored) -> Stored {
    if part == Part::Vae && name.contains(".attentions.") { stored.into_linear() } else { stored }
}

/// Replaces the first of `renames` that `name` starts with; `None` when there is none.
fn rename(name: &str, renames: &[(&str, &str)]) -> Option<String> {
    renames.iter().find_map(|(old, new)| name.strip_prefix(old).map(|rest| format!("{new}{rest}")))
}

/// Splits "12.rest" into a number and the rest.
fn index(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    // At most three digits: no model has more blocks, and arithmetic on them stays small.
    let short = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if short { Some((number.parse().ok()?, rest)) } else { None }
}
