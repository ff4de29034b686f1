//! The commands about model files: `darkroom convert` and `darkroom inspect`.

mod convert;
mod inspect;

use clap::Subcommand;

use crate::cli::EXIT_CODES;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert a model: .ckpt, .safetensors or diffusers folder, to .safetensors or a diffusers folder.
    ///
    /// Without --half no bit of a tensor changes. What the target cannot hold is told on standard error; a folder whose vocabulary,
    /// schedule or configuration a single file could not say is refused. Nothing is ever overwritten, and the target appears when it
    /// is whole.
    #[command(after_help = EXIT_CODES)]
    Convert(convert::Flags),

    /// Say what a model is: its layout, its networks and their sizes, EMA or not, and what is missing.
    ///
    /// Only directories and configurations are read. A LoRA, a textual inversion or another family's model is called by its name. The
    /// exit code is 1 for what is no whole Stable Diffusion v1 model.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{}\n\n{EXIT_CODES}", inspect::JSON_FIELDS))]
    Inspect(inspect::Flags),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Convert(flags) => convert::run(flags),
            Self::Inspect(flags) => inspect::run(&flags),
        }
    }
}
