//! `darkroom bench`: how long a stage of a model takes on this machine, and where the time goes. No service is started.
//!
//! The rounds that count are those that are timed by layer group. A group's clock is read twice an operation: under a ten-thousandth
//! of a full-size step, and no second model has to be loaded and measured beside the first.

mod flags;
mod machine;
mod report;
mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::stage::{ComputeOptions, ModelError, Timings};
use darkroom_service_kit::{LogFormat, telemetry};

use crate::failure::Failure;
use crate::txt2img::print;
pub(crate) use flags::Flags;
use report::Report;
use workload::{Job, Workload};

/// The part of `--help` that explains `--json`.
pub(crate) const JSON_FIELDS: &str = "\
With --json, standard output is one object:
  stage, model, revision, device, precision, threads, cpu, width, height (null for text), batch, undivided
  load_seconds       reading and packing the weights
  first_seconds      the first round after loading, which does not count
  seconds            of each round that counts
  median_seconds     of these
  groups             seconds by layer group in an average round; empty on a GPU
  peak_memory_bytes  of the process, loading included; null where the system does not tell";

/// Measures what `flags` ask for.
pub(crate) fn run(flags: Flags) -> Result<(), Failure> {
    flags.check()?;
    telemetry::init("warn", LogFormat::Text)?;
    // Full-size weights take a while, and nothing else is shown meanwhile.
    eprintln!("loading {}", flags.model.as_deref().unwrap_or("the pocket model"));
    let source =
        ModelSource::resolve(flags.model.as_deref(), SourceOptions { ema: flags.ema }).map_err(anyhow::Error::from)?;
    let job = job(&flags, &source)?;
    let report = measure(&flags, job, &source)?;
    if flags.json { print(report.json()) } else { print(report) }
}

fn measure(flags: &Flags, job: Job, source: &ModelSource) -> anyhow::Result<Report> {
    let threads = flags.threads.map_or_else(machine::cores, usize::from);
    let options = ComputeOptions { device: flags.device, precision: flags.precision, threads: Some(threads) };
    let timings = Arc::new(Timings::default());
    let mut workload = Workload::prepare(job, source, &options, &timings)?;
    let first = timed(&mut workload)?;
    // What loading, preparing and the first round took is nobody's round.
    timings.take();
    let rounds = (0..flags.rounds).map(|_| timed(&mut workload)).collect::<Result<_, _>>()?;
    Ok(Report {
        job,
        model: source.name().to_owned(),
        identity: workload.identity,
        cpu: machine::cpu_name(),
        threads,
        load: workload.load,
        first,
        rounds,
        groups: timings.take(),
        peak_memory_bytes: machine::peak_memory_bytes(),
    })
}

fn timed(workload: &mut Workload) -> Result<Duration, ModelError> {
    let began = Instant::now();
    (workload.round)()?;
    Ok(began.elapsed())
}

/// The flags' size where they say one, else the model's own.
fn job(flags: &Flags, source: &ModelSource) -> Result<Job, Failure> {
    let (factor, defaults) = size_of(source)?;
    let side = |flag, given: Option<u32>, own| match given.map(|side| side as usize) {
        Some(side) if !side.is_multiple_of(factor) => {
            Err(Failure::Usage(format!("{flag}: {side} is no multiple of {factor}, as this model needs")))
        }
        side => Ok(side.unwrap_or(own)),
    };
    Ok(Job {
        stage: flags.stage,
        width: side("--width", flags.width, defaults.0)?,
        height: side("--height", flags.height, defaults.1)?,
        factor,
        batch: usize::from(flags.batch),
        undivided: flags.undivided,
    })
}

/// The autoencoder's factor, and the width and height of the model's own pictures.
fn size_of(source: &ModelSource) -> anyhow::Result<(usize, (usize, usize))> {
    let defaults = source.defaults()?;
    Ok((source.vae_config()?.factor(), (defaults.width, defaults.height)))
}
