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
  1    no request was completed
  2    wrong usage, or a setting that the model or the server does not allow
  3    the server answers and its fleet cannot serve
  4    nobody answers there
  130  interrupted; what there is was printed";

const WHAT_IS_TOLD: &str = "\
What is told: of the requests how many were offered (due to be sent), completed, refused (before they were let in), failed (later), cut (still
under way when the test ended) and unsent (--most-running others were under way). Latency is the time from when a request was due to
its last event; queue, text encoder, denoiser and VAE are the server's own account of it (a request's pictures share a denoiser), server
their whole. Late is how long after its time the generator sent a request: where that is not small, this machine is the bottleneck.
Images a minute are those that came, over the time from the first request to the last answer. Percentiles are exact for the first
262,144 requests; of more a random choice of as many is kept.

The default prompts are eight and take turns, so the server remembers their embeddings; --from-file with many lines gives its text
encoders work, too. Each request has a seed of its own.";

const JSON_FIELDS: &str = "\
With --json, standard output is one object:
  server, version, model, arrivals (poisson, constant or closed), rate_per_minute (null where closed), concurrency (null where open), seed,
  interrupted, sending_seconds (from the first request to the last), seconds (to the last answer)
  requests   offered, completed, refused, failed, cut, unsent
  images     made, failed, per_minute
  seconds_of of each of latency, first_event, server, queue, text_encoder, denoiser, vae (of completed requests), refusal (of refused ones) and
             late (of all): count, mean, p50, p90, p95, p99, max
  refusals   by gRPC code: count, without_delay (that told no time to try again), retry_seconds (min, mean, max; null where none told)
  failures   by gRPC code: how many";

const EXAMPLES: &str = "\
Examples:
  darkroom loadtest --rate 30 --duration 10m                      Poisson arrivals, 30 a minute
  darkroom loadtest --rate 120 --arrivals constant --requests 100 --steps 20
  darkroom loadtest --concurrency 8 --duration 5m                 how much it can: eight clients, one after the other
  darkroom loadtest --rate 600 --from-file prompts.txt --json --server http://darkroom:7000 > load.json";

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
