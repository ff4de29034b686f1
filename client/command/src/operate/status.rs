//! `darkroom status`: one look at a fleet, for people or as JSON, and an exit code for scripts.

mod report;

use std::io::IsTerminal;

use console::Term;

use super::server::ServerFlags;
use crate::failure::Failure;
use crate::txt2img::print;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  the fleet can serve
  1  the server's answer was an error, such as a key that it does not know
  2  wrong usage
  3  the server answers and the fleet cannot serve: a stage has no ready
     worker, or their models do not fit each other
  4  no answer: nobody listens there, or the answer took too long";

const COLUMNS: &str = "\
Columns of the table; on a narrow terminal some are left out:
  RUN   what runs there: pictures of a denoiser's batch, calls elsewhere
  WAIT  pictures that wait for a place in the batch
  SEEN  how long ago the worker last answered the orchestrator
A worker's STATE is ready, or why it gets no work:
  unreachable      it does not answer
  starting         its model is not loaded yet
  draining         it was told to leave
  retired          its DNS name no longer leads to it
  misfit_revision, misfit_precision
                   the others run another revision, or in another precision";

const JSON_FIELDS: &str = "\
With --json, standard output is one object, also where nobody answers:
  server, answers (whether it did), ready, problem (null where it is ready)
and where it answers:
  version, uptime_seconds
  queue    depth, limit, running (requests that have begun), work_seconds (of
           one denoiser, for all that waits or runs)
  totals   admitted_requests, refused_requests, images, failed_images, steps:
           counted since the orchestrator started
  stages   of each stage: stage, workers, ready
  workers  of each worker: stage, address, state, ready, problem, model,
           served_model (for which of several it is listed), revision,
           precision, device, version, seen_seconds_ago (null: never), calls (of
           this orchestrator), and of a denoiser load (else null): running,
           waiting, remaining_evaluations, remaining_seconds, step_seconds,
           running_pixels, batch_pixels";

const EXAMPLES: &str = "\
Examples:
  darkroom status
      a fleet of this machine (darkroom up)
  darkroom status --json --server http://darkroom:7000 |
      jq '.workers[] | select(.ready | not)'
  until darkroom status >/dev/null 2>&1; do sleep 1; done
      waits until it can serve";

pub(super) fn long_help() -> String {
    [COLUMNS, JSON_FIELDS, EXAMPLES, EXIT_CODES].join("\n\n")
}

/// The flags of `darkroom status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    server: ServerFlags,
    /// Write one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Prints the fleet's state. What it means is the exit code.
pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let Flags { server, json } = flags;
    let answer = match server.connect().await {
        Ok(client) => client.server_info().await.map_err(|error| server.failure(error)),
        Err(failure) => Err(failure),
    };
    let info = match answer {
        Ok(info) => info,
        Err(failure) => {
            if let Some(error) = failure.of_server().filter(|_| json) {
                print(report::no_answer(&server.server, error))?;
            }
            return Err(failure);
        }
    };
    if json {
        print(report::object(&server.server, &info))?;
    } else {
        let width = std::io::stdout().is_terminal().then(|| Term::stdout().size().1.into());
        print(report::text(&server.server, &info, width))?;
    }
    // Why, is told already.
    if info.ready { Ok(()) } else { Err(Failure::NotReady("the fleet cannot serve".into())) }
}
