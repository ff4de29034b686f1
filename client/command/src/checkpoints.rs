//! The commands about model files: `darkroom convert`.

mod convert;

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
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Convert(flags) => convert::run(flags),
        }
    }
}
