//! The workers of a fleet in a table: what each is, and what it does.

use std::collections::BTreeMap;

use console::{Style, style};
use darkroom_client::{DenoiserLoad, ServerInfo, StageWorker};

use super::span::{told, told_seconds};
use super::table::{Column, Table};

/// Digits of a revision that tell it from others.
const DIGITS: usize = 8;
/// Characters of a full batch.
const BAR: usize = 6;

/// A column, and what it says of a worker.
type Field = (Column, fn(&StageWorker) -> String);

const STAGE: Field = (Column::words("STAGE", 10), |worker| worker.stage.clone());
const ADDRESS: Field = (Column::words("ADDRESS", 9), |worker| worker.address.trim_start_matches("http://").into());
const STATE: Field = (Column::words("STATE", 10), |worker| coloured(&worker.state));
const RUN: Field = (Column::numbers("RUN", 8), running);
const WAIT: Field = (Column::numbers("WAIT", 7), |worker| of_load(worker, |load| load.waiting.to_string()));
const BATCH: Field = (Column::words("BATCH", 6), |worker| of_load(worker, bar));
const STEP: Field = (Column::numbers("STEP", 4), |worker| of_load(worker, step));
const LEFT: Field = (Column::numbers("LEFT", 3), |worker| of_load(worker, |load| told_seconds(load.remaining_seconds)));
const MODEL: Field = (Column::words("MODEL", 6), model);
const REVISION: Field = (Column::words("REVISION", 5), |worker| worker.revision.chars().take(DIGITS).collect());
const TYPE: Field = (Column::words("TYPE", 4), |worker| worker.precision.clone());
const DEVICE: Field = (Column::words("DEVICE", 2), |worker| worker.device.clone());
const VERSION: Field = (Column::words("VERSION", 3), |worker| worker.version.clone());
const SEEN: Field = (Column::numbers("SEEN", 1), |worker| worker.seen.map_or_else(|| "never".into(), told));

/// What they are.
const WHO: [Field; 11] = [STAGE, ADDRESS, STATE, RUN, WAIT, MODEL, REVISION, TYPE, DEVICE, VERSION, SEEN];
/// What they do.
const LOAD: [Field; 9] = [STAGE, ADDRESS, STATE, RUN, WAIT, BATCH, STEP, LEFT, SEEN];

/// Who there is.
pub(super) fn who(workers: &[StageWorker]) -> Table {
    table(&WHO, workers)
}

/// What they have to do.
pub(super) fn load(workers: &[StageWorker]) -> Table {
    table(&LOAD, workers)
}

fn table(fields: &[Field], workers: &[StageWorker]) -> Table {
    Table::new(fields.iter().map(|(column, cell)| (*column, workers.iter().map(cell).collect())))
}

/// What it runs; before it told so, what it is there for.
fn model(worker: &StageWorker) -> String {
    [&worker.model, &worker.served_model].into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default()
}

/// How many of each stage are ready: "denoiser 1 of 2".
pub(super) fn ready(workers: &[StageWorker]) -> BTreeMap<&str, (usize, usize)> {
    let mut stages = BTreeMap::new();
    for worker in workers {
        let (ready, all): &mut (usize, usize) = stages.entry(worker.stage.as_str()).or_default();
        *ready += usize::from(worker.ready);
        *all += 1;
    }
    stages
}

/// The server's first lines: what it is, whether it serves, what it has to do.
pub(super) fn headline(server: &str, info: &ServerInfo) -> Vec<String> {
    let state = match info.ready {
        true => style("ready").green().to_string(),
        false => style("not ready").red().to_string(),
    };
    let mut lines = vec![format!("darkroom {} at {server}: {state}, up {}", info.version, told(info.uptime))];
    if !info.ready {
        lines.push(format!("  {}", info.problem));
    }
    lines
}

/// What waits and runs.
pub(super) fn queue(info: &ServerInfo) -> String {
    let ServerInfo { queue_depth, queue_limit, running_requests, queued_work_seconds, .. } = info;
    let work = told_seconds(*queued_work_seconds);
    format!(
        "queue: {queue_depth} of {queue_limit} requests wait, {running_requests} run; {work} of work for one denoiser"
    )
}

/// How many are ready.
pub(super) fn stages(info: &ServerInfo) -> String {
    let stages = ready(&info.workers);
    let stages: Vec<_> = stages.iter().map(|(stage, (ready, all))| format!("{stage} {ready} of {all}")).collect();
    format!("ready: {}", stages.join(", "))
}

/// Pictures in the batch of a denoiser, calls at another worker.
fn running(worker: &StageWorker) -> String {
    match &worker.load {
        Some(_) => of_load(worker, |load| load.running.to_string()),
        None if worker.calls == 0 && !worker.ready => String::new(),
        None => worker.calls.to_string(),
    }
}

/// What a worker last said counts for nothing once it cannot be reached.
fn of_load(worker: &StageWorker, cell: impl FnOnce(&DenoiserLoad) -> String) -> String {
    worker.load.as_ref().filter(|_| worker.state != "unreachable").map_or_else(String::new, cell)
}

fn bar(load: &DenoiserLoad) -> String {
    // A picture that is larger than the budget runs alone.
    let share = load.running_pixels as f64 / load.batch_pixels.max(1) as f64;
    let full = (share.min(1.0) * BAR as f64).round() as usize;
    format!("[{}{}] {:3.0} %", "|".repeat(full), " ".repeat(BAR - full), 100.0 * share)
}

fn step(load: &DenoiserLoad) -> String {
    match load.step_seconds {
        seconds if seconds > 0.0 => format!("{seconds:.3} s"),
        _ => String::new(),
    }
}

fn coloured(state: &str) -> String {
    let colour = match state {
        "ready" => Style::new().green(),
        "starting" | "draining" | "retired" => Style::new().yellow(),
        _ => Style::new().red(),
    };
    colour.apply_to(state).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use darkroom_client::Totals;

    use super::*;

    pub(in crate::operate) fn worker(stage: &str, state: &str) -> StageWorker {
        let ready = state == "ready";
        // Somebody may run the tests on a terminal.
        console::set_colors_enabled(false);
        StageWorker {
            stage: stage.into(),
            address: "127.0.0.1:7003".into(),
            ready,
            state: state.into(),
            model: "pocket".into(),
            revision: "0123456789abcdef".into(),
            precision: "bf16".into(),
            device: "cpu".into(),
            version: "0.1.0".into(),
            problem: if ready { String::new() } else { format!("it is {state}") },
            seen: Some(Duration::from_millis(250)),
            calls: 2,
            load: None,
            served_model: String::new(),
        }
    }

    pub(in crate::operate) fn denoiser(state: &str) -> StageWorker {
        let load = DenoiserLoad {
            running: 3,
            waiting: 1,
            remaining_evaluations: 80,
            remaining_seconds: 12.5,
            step_seconds: 0.0314,
            running_pixels: 1536,
            batch_pixels: 2048,
        };
        StageWorker { load: Some(load), ..worker("denoiser", state) }
    }

    pub(in crate::operate) fn info(workers: Vec<StageWorker>) -> ServerInfo {
        console::set_colors_enabled(false);
        ServerInfo {
            version: "0.1.0".into(),
            ready: true,
            problem: String::new(),
            uptime: Duration::from_secs(100),
            queue_depth: 12,
            queue_limit: 1024,
            running_requests: 4,
            queued_work_seconds: 41.25,
            totals: Totals { images: 70, steps: 3000, ..Totals::default() },
            workers,
        }
    }

    #[test]
    fn a_worker_is_told_in_its_columns() {
        let workers = [worker("vae", "ready"), denoiser("draining"), denoiser("unreachable")];
        let lines = load(&workers).lines(None);
        assert_eq!(
            lines,
            [
                "STAGE     ADDRESS         STATE        RUN  WAIT  BATCH              STEP  LEFT    SEEN",
                "vae       127.0.0.1:7003  ready          2                                       0.25 s",
                "denoiser  127.0.0.1:7003  draining       3     1  [||||| ]  75 %  0.031 s  12 s  0.25 s",
                "denoiser  127.0.0.1:7003  unreachable                                            0.25 s",
            ]
        );
        assert!(who(&workers).lines(None)[1].contains("01234567  bf16  cpu     0.1.0"));
        assert!(who(&workers).lines(Some(80)).iter().all(|line| line.len() <= 80));
    }

    #[test]
    fn who_is_ready_is_counted_by_stage() {
        let workers = [worker("vae", "ready"), denoiser("starting"), denoiser("ready")];
        assert_eq!(ready(&workers), BTreeMap::from([("denoiser", (1, 2)), ("vae", (1, 1))]));
    }
}
