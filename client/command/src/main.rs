//! `darkroom`: pictures from prompts, with or without a server.

mod arguments;
#[cfg(feature = "local")]
mod bench;
#[cfg(feature = "local")]
mod checkpoints;
mod cli;
mod failure;
mod interrupt;
mod key;
mod operate;
mod runtime;
mod server;
#[cfg(feature = "local")]
mod service;
mod txt2img;
#[cfg(feature = "local")]
mod up;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use runtime::block_on;
use txt2img::Recipe;

fn main() -> ExitCode {
    #[cfg(feature = "local")]
    if let Some(service) = service::Service::from_program_name(std::env::args_os().next()) {
        return service.run();
    }
    let cli = match Cli::try_parse_from(arguments::with_dashes(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => return failure::answer_usage(&error),
    };
    let outcome = match cli.command {
        Command::Txt2img(flags) => block_on(txt2img::run((*flags, Recipe::txt2img()))),
        Command::Img2img(flags) => flags.into_parts().and_then(|parts| block_on(txt2img::run(parts))),
        Command::Inpaint(flags) => flags.into_parts().and_then(|parts| block_on(txt2img::run(parts))),
        Command::Sweep(flags) => flags.into_parts().and_then(|parts| block_on(txt2img::run(parts))),
        Command::Key(flags) => key::run(&flags),
        Command::Operate(command) => block_on(command.run()),
        #[cfg(feature = "local")]
        Command::Bench(flags) => bench::run(flags),
        #[cfg(feature = "local")]
        Command::Checkpoints(command) => command.run(),
        #[cfg(feature = "local")]
        Command::Up(flags) => block_on(up::run(flags)),
        #[cfg(feature = "local")]
        Command::Serve { service, flags } => service.exec(flags),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
