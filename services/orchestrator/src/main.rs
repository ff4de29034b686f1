//! The process of the orchestrator: configuration, logs, start, serve until told to stop, drain.

use std::process::ExitCode;

fn main() -> ExitCode {
    darkroom_service_kit::run(
        "darkroom-orchestrator",
        "Takes requests for pictures and drives the model stages",
        darkroom_orchestrator::start,
    )
}
