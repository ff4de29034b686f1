//! From the names that tensors have had to the ones that diffusers and transformers give them today, and back to CompVis'.
//!
//! The correspondence is that of the modules themselves: CompVis' `ldm/modules/diffusionmodules/openaimodel.py` and
//! `model.py` against diffusers' `unet_2d_condition.py` and `autoencoder_kl.py`; it holds for any depth and width.

mod autoencoder;
mod extras;
mod safety;
mod text;
mod unet;

use super::{Part, Stored};

pub(crate) use extras::Extra;
pub(super) use extras::is_known_extra;
pub(super) use unet::{ema_name, layers_per_block};

/// Today's name of a tensor in a diffusers folder: new or old there.
pub(super) fn from_diffusers(part: Part, name: &str) -> String {
    match part {
        Part::Unet => name.to_owned(),
        Part::Vae => autoencoder::from_older(name),
        Part::TextEncoder => text::without_prefix(name).to_owned(),
        Part::SafetyChecker => safety::without_prefix(name).to_owned(),
    }
}

/// Whether a tensor of a part's own file is of any use. What one network leaves aside is another's: of CLIP's two towers the text encoder
/// has one, the safety checker the other.
pub(crate) fn is_useful(part: Part, name: &str) -> bool {
    !is_known_extra(name) || (part == Part::SafetyChecker && safety::is_of_tower(name))
}

/// Part and today's name of a tensor with its CompVis name; `None` for what is no part's.
pub(crate) fn from_compvis(name: &str, sizes: Sizes) -> Option<(Part, String)> {
    if let Some(name) = name.strip_prefix("model.diffusion_model.") {
        return unet::from_compvis(name, sizes.unet_layers).map(|name| (Part::Unet, name));
    }
    if let Some(name) = name.strip_prefix("first_stage_model.") {
        return autoencoder::from_compvis(name, sizes.vae_levels).map(|name| (Part::Vae, name));
    }
    let name = name.strip_prefix("cond_stage_model.transformer.")?;
    Some((Part::TextEncoder, text::without_prefix(name).to_owned()))
}

/// The name of a tensor in a diffusers folder, from today's.
pub(crate) fn to_diffusers(part: Part, name: &str) -> String {
    match part {
        Part::Unet | Part::Vae => name.to_owned(),
        Part::TextEncoder => text::with_prefix(name),
        Part::SafetyChecker => safety::with_prefix(name),
    }
}

/// The CompVis name of a tensor, from today's; `None` for what has none there.
pub(crate) fn to_compvis(part: Part, name: &str, blocks: &Blocks) -> Option<String> {
    match part {
        Part::Unet => unet::to_compvis(name, blocks).map(|name| format!("model.diffusion_model.{name}")),
        Part::Vae => autoencoder::to_compvis(name, blocks.vae_levels).map(|name| format!("first_stage_model.{name}")),
        Part::TextEncoder => Some(format!("cond_stage_model.transformer.{}", text::with_prefix(name))),
        Part::SafetyChecker => None,
    }
}

/// What today's names leave open when CompVis' are made of them.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    /// Residual blocks a down block of the UNet.
    pub(crate) unet_layers: usize,
    /// Whether each up block of the UNet has attention, the coarsest first.
    pub(crate) up_block_attention: Vec<bool>,
    /// Resolutions of the autoencoder.
    pub(crate) vae_levels: usize,
}

/// What CompVis' names leave open: where a block ends, and which way the decoder counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Residual blocks a down block of the UNet.
    pub(super) unet_layers: usize,
    /// Resolutions of the autoencoder.
    pub(super) vae_levels: usize,
}

impl Sizes {
    /// Reads them off the names themselves.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let unet = names.clone().filter_map(|name| name.strip_prefix("model.diffusion_model."));
        let vae = names.filter_map(|name| name.strip_prefix("first_stage_model."));
        Self { unet_layers: layers_per_block(unet), vae_levels: autoencoder::levels(vae) }
    }
}

/// The shape that a tensor has under its CompVis name: the autoencoder's attention is 1×1 convolutions there.
pub(crate) fn compvis_shape(part: Part, name: &str, shape: &[usize]) -> Vec<usize> {
    match shape {
        [outputs, inputs] if part == Part::Vae && name.contains(".attentions.") => vec![*outputs, *inputs, 1, 1],
        _ => shape.to_vec(),
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

/// As [`rename`], the other way: from the second of each pair to the first.
fn rename_back(name: &str, renames: &[(&str, &str)]) -> Option<String> {
    renames.iter().find_map(|(old, new)| name.strip_prefix(new).map(|rest| format!("{old}{rest}")))
}

/// Splits "12.rest" into a number and the rest.
fn index(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    // At most three digits: no model has more blocks, and arithmetic on them stays small.
    let short = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if short { Some((number.parse().ok()?, rest)) } else { None }
}
