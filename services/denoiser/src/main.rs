//! `darkroom-denoiser`: the denoiser as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    darkroom_service_kit::run("darkroom-denoiser", "Hosts the UNet and the sampler loop", darkroom_denoiser::start)
}
