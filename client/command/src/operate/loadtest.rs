//! `darkroom loadtest`: requests at a given rate or by so many clients, and what became of them.

mod asking;
mod drive;
mod flags;
mod progress;
mod report;
mod tally;

use std::sync::Arc;

use rand::random;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::txt2img::print;
use asking::Asking;
pub(crate) use flags::Flags;
use progress::Progress;
use report::Report;
use tally::Tally;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    done, however many requests were refused or failed
  1    no request was completed, or another error
  2    wrong usage, or a setting that the model or the server does not allow
  3    the server answers and its fleet cannot serve
  4    nobody answers there
  130  interrupted; what there is was printed";

const WHAT_IS_TOLD: &str = "\
Requests are told as
  offered    due to be sent
  completed  with their last event
  refused    before they were let in
  failed     after that
  cut        still under way when the test ended
  unsent     when they were due, --most-running others were under way
and times, in seconds, as
  latency    of completed requests, from when each was due to its last event
  server     the server's own account of that, with its parts: the queue, the
             text encoder, the denoiser from a request's first picture to its
             last, and the VAE
  refusal    of refused requests, from when each was due to the answer
  late       how long after it was due a request was sent: where that is not
             small, this machine is the bottleneck
Images a minute are those that came, over the whole time. Percentiles are exact
for the first 262,144 requests; of more a random choice of as many is kept.

The default prompts are eight and take turns, so a server soon remembers their
embeddings; --from-file with many lines gives its text encoders work, too. Each
picture has a seed of its own.";

const JSON_FIELDS: &str = "\
With --json, standard output is one object:
  server, version, model, seed, interrupted
  arrivals (poisson, constant or closed), rate_per_minute (null: closed),
  concurrency (null: open)
  sending_seconds (how long requests came), seconds (to the last answer)
  requests    offered, completed, refused, failed, cut, unsent
  images      made, failed, per_minute
  seconds_of  latency, first_event, server, queue, text_encoder, denoiser, vae,
              refusal, late: of each count, mean, p50, p90, p95, p99, max
  refusals    by gRPC code: count, without_delay (not told when to come again),
              retry_seconds (null, or min, mean, max)
  failures    by gRPC code: how many";

const EXAMPLES: &str = "\
Examples:
  darkroom loadtest --rate 30 --duration 10m
      Poisson arrivals, 30 a minute
  darkroom loadtest --rate 120 --arrivals constant --requests 100 --steps 20
      a request each half a second
  darkroom loadtest --concurrency 16 --duration 5m
      how much it can: sixteen clients, each with one request after the other
  darkroom loadtest --rate 600 --from-file prompts.txt --json > load.json";

pub(super) fn long_help() -> String {
    [WHAT_IS_TOLD, JSON_FIELDS, EXAMPLES, EXIT_CODES].join("\n\n")
}

/// Runs the test and prints what came of it, interrupted or not.
pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let (prompts, json) = (flags.prompts()?, flags.json);
    let mut interrupts = Interrupts::listen()?;
    let seed = flags.seed.unwrap_or_else(|| u64::from(random::<u32>()));
    let connecting = interrupts.unless(Asking::connect(flags, prompts, seed)).await;
    let asking = Arc::new(connecting.ok_or(Failure::Interrupted)??);

    let tally = Arc::new(Tally::start());
    let progress = Progress::start(&tally);
    let driven = interrupts.unless(drive::drive(Arc::clone(&asking), Arc::clone(&tally))).await;
    // Before anything that is under way is let go and ends.
    let figures = tally.figures();
    progress.stop();
    let interrupted = driven.is_none();
    driven.transpose()?;

    let report = Report { asking: &asking, interrupted, figures };
    if json {
        print(report.json())?
    } else {
        print(&report)?
    }
    match (interrupted, report.figures.completed) {
        (true, _) => Err(Failure::Interrupted),
        (false, 0) => Err(anyhow::anyhow!("no request was completed").into()),
        (false, _) => Ok(()),
    }
}
