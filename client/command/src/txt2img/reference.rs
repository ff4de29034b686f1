//! Flags of the reference's scripts that say nothing to Darkroom, or ask for what it does not do: known, so that its command lines work,
//! and never passed over in silence.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct ReferenceFlags {
    /// Without effect: what a model is made of is found from its weights and the files beside them.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    config: Option<PathBuf>,
    /// Channels of the latents: 4, as all models of the family have.
    #[arg(long = "C", value_name = "N", value_parser = channels, hide_short_help = true)]
    channels: Option<u32>,
    /// Pixels of a picture to one of its latents, each way: 8, as all models of the family have.
    #[arg(long = "f", value_name = "N", value_parser = factor, hide_short_help = true)]
    factor: Option<u32>,
    /// Refused: it asks for another model.
    #[arg(long, hide_short_help = true)]
    laion400m: bool,
}

impl ReferenceFlags {
    /// Refuses what would give other pictures than those that were asked for.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.laion400m {
            let why = "--laion400m: asks for another model, the latent diffusion of 1.45 billion parameters with a text encoder of its \
                       own, which Darkroom does not run; leave it out for Stable Diffusion v1";
            return Err(Failure::Usage(why.into()));
        }
        Ok(())
    }

    /// What was said without effect, a line each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let config = self.config.as_ref().map(|path| {
            format!("--config: {} is not read; what a model is made of is found from its weights", path.display())
        });
        config.into_iter().collect()
    }
}

fn channels(text: &str) -> Result<u32, String> {
    only(4, text, "the latents of Stable Diffusion v1 have 4 channels")
}

fn factor(text: &str) -> Result<u32, String> {
    only(8, text, "the autoencoder of Stable Diffusion v1 makes 8x8 pixels of a latent; --W and --H set the size")
}

fn only(allowed: u32, text: &str, why: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number == allowed).ok_or_else(|| format!("allowed is {allowed}: {why}"))
}

/// For `--indir` of the reference's scripts/inpaint.py, whatever it says.
pub(crate) fn no_folder(_: &str) -> Result<PathBuf, String> {
    Err("a run repaints one picture: name it with --init-img, and its mask with --mask-image".into())
}
