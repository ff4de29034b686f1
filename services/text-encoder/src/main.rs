//! `darkroom-text-encoder`: the text encoder as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    darkroom_service_kit::run("darkroom-text-encoder", "Hosts the CLIP text tower", darkroom_text_encoder::start)
}
