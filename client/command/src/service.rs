//! The services inside this program: `darkroom serve NAME`, or this program under the service's own name.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use rustix::process::{Signal, getpid, kill_process};

use crate::failure::Failure;

/// When this variable is set, a service takes the end of its standard input for SIGTERM.
///
/// `darkroom up` holds the other end of that pipe. However `up` ends, even by SIGKILL, the kernel closes its end, and so no
/// service outlives it. (Linux' PR_SET_PDEATHSIG would do the same, but only there and only through unsafe code.)
pub(crate) const STOP_WITH_STDIN: &str = "DARKROOM_STOP_WITH_STDIN";

/// One of the four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    TextEncoder,
    Denoiser,
    Vae,
    Orchestrator,
}

impl Service {
    const ALL: [Self; 4] = [Self::TextEncoder, Self::Denoiser, Self::Vae, Self::Orchestrator];

    /// The name of the service's own program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::TextEncoder => "darkroom-text-encoder",
            Self::Denoiser => "darkroom-denoiser",
            Self::Vae => "darkroom-vae",
            Self::Orchestrator => "darkroom-orchestrator",
        }
    }

    /// The service that this process is to be: by the name it was started under, so that a link is all a service needs.
    pub(crate) fn from_program_name(name: Option<OsString>) -> Option<Self> {
        let name = name?;
        let name = Path::new(&name).file_name()?;
        Self::ALL.into_iter().find(|service| name == service.program())
    }

    /// Runs the service in this process until it is told to stop. Its flags are this process's.
    pub(crate) fn run(self) -> ExitCode {
        if std::env::var_os(STOP_WITH_STDIN).is_some() {
            std::thread::spawn(terminate_with_stdin);
        }
        let name = self.program();
        match self {
            Self::TextEncoder => {
                darkroom_service_kit::run(name, "Hosts the CLIP text tower", darkroom_text_encoder::start)
            }
            Self::Denoiser => {
                darkroom_service_kit::run(name, "Hosts the UNet and the sampler loop", darkroom_denoiser::start)
            }
            Self::Vae => darkroom_service_kit::run(name, "Hosts the autoencoder", darkroom_vae::start),
            Self::Orchestrator => darkroom_service_kit::run(
                name,
                "Takes requests and drives the model stages",
                darkroom_orchestrator::start,
            ),
        }
    }

    /// Becomes the service: this program again, under the service's name. Returns only when that fails.
    pub(crate) fn exec(self, flags: Vec<OsString>) -> Result<(), Failure> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let error = std::process::Command::new(program).arg0(self.program()).args(flags).exec();
        Err(anyhow::Error::new(error).context("cannot start this program again").into())
    }
}

fn terminate_with_stdin() {
    // Nothing is ever sent; an error means as much as the end.
    _ = std::io::stdin().read_to_end(&mut Vec::new());
    if let Err(error) = kill_process(getpid(), Signal::TERM) {
        tracing::error!("the parent is gone, but SIGTERM cannot be raised: {error}");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_service() {
        let service = |name: &str| Service::from_program_name(Some(name.into()));
        assert_eq!(service("/usr/bin/darkroom-vae"), Some(Service::Vae));
        assert_eq!(service("darkroom-denoiser"), Some(Service::Denoiser));
        assert_eq!(service("darkroom"), None);
    }
}
