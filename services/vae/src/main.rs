//! `darkroom-vae`: the autoencoder as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    darkroom_service_kit::run("darkroom-vae", "Hosts the autoencoder", darkroom_vae::start)
}
