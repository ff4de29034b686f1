//! The command line: its subcommands and what `--help` says of them.

use clap::{Parser, Subcommand};

use crate::txt2img;

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage, or a setting that the model or the server does not allow
  130  interrupted; pictures that were finished are kept";

/// Makes pictures from text with Stable Diffusion v1 models.
#[derive(Debug, Parser)]
#[command(name = "darkroom", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make pictures from a prompt.
    ///
    /// Flags are those of the reference's scripts/txt2img.py; underscores for dashes work too (--n_samples). What is left out
    /// takes the model's own default.
    #[command(after_help = EXIT_CODES, after_long_help = concat_help())]
    Txt2img(Box<txt2img::Flags>),

    /// Modify a picture by a prompt.
    ///
    /// The picture is taken some way into noise (--strength) and brought back by the prompt, as the reference's scripts/img2img.py
    /// does it; flags have its names and defaults: --sampler ddim, --scale 5 (or the model's own default), --strength 0.75.
    #[command(after_help = EXIT_CODES, after_long_help = concat_help())]
    Img2img(Box<txt2img::Img2img>),

    /// Make a part of a picture anew by a prompt; the rest stays as it is.
    ///
    /// Any model will do; one whose UNet was made for it sees the rest of the picture. Where the mask is black, every pixel of
    /// the result is the picture's own.
    #[command(after_help = EXIT_CODES, after_long_help = concat_help())]
    Inpaint(Box<txt2img::Inpaint>),

    /// Make the same picture over and over with one or two settings varied, and a labelled grid of them.
    ///
    /// Flags are those of txt2img, with --init-img those of img2img. One or two of --scale, --sampler, --steps, --seed and --strength
    /// take several values, separated by commas: the first of them on the command line makes the grid's columns, the second its rows.
    /// With --from-file each prompt has a grid of its own.
    ///
    /// The evaluation of the reference's checkpoints: darkroom sweep PROMPT --scale 1.5,2,3,4,5,6,7,8 --plms --steps 50
    #[command(after_help = EXIT_CODES, after_long_help = concat_help())]
    Sweep(Box<txt2img::Sweep>),

    #[command(flatten)]
    Operate(crate::operate::Command),

    /// Run the whole fleet on this machine, a process for each service, until interrupted.
    ///
    /// Prints one line with the addresses when all services are ready. Ctrl-C or SIGTERM lets running requests finish, then
    /// stops the services.
    #[cfg(feature = "local")]
    #[command(after_help = EXIT_CODES)]
    Up(crate::up::Flags),

    /// Measure a stage of a model on this machine: seconds of each round, where they go, memory.
    ///
    /// Without any flag, a guided step of the pocket model's UNet.
    #[cfg(feature = "local")]
    #[command(after_help = EXIT_CODES, after_long_help = format!("{}\n\n{EXIT_CODES}", crate::bench::JSON_FIELDS))]
    Bench(crate::bench::Flags),

    /// Make a key for a client of an orchestrator, and its entry for the clients file.
    #[command(after_help = crate::key::EXAMPLE)]
    Key(crate::key::Flags),

    #[cfg(feature = "local")]
    #[command(flatten)]
    Checkpoints(crate::checkpoints::Command),

    /// Run one service in this process, as the program darkroom-SERVICE does.
    #[cfg(feature = "local")]
    #[command(hide = true, disable_help_flag = true, arg_required_else_help = true)]
    Serve {
        /// Which one.
        service: crate::service::Service,
        /// The service's own flags; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<std::ffi::OsString>,
    },
}

fn concat_help() -> String {
    format!("{}\n\n{EXIT_CODES}", txt2img::JSON_EVENTS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
