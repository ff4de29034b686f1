//! A fleet's state as a text and as JSON.

use darkroom_client::{Error, ServerInfo, StageWorker, Totals};
use serde_json::{Value, json};

use crate::failure::describe;
use crate::operate::workers;

/// For people, no wider than `width`.
pub(super) fn text(server: &str, info: &ServerInfo, width: Option<usize>) -> String {
    let mut lines = workers::headline(server, info);
    lines.extend([workers::queue(info), workers::stages(info), String::new()]);
    lines.extend(workers::who(&info.workers).lines(width));
    let away: Vec<&StageWorker> = info.workers.iter().filter(|worker| !worker.problem.is_empty()).collect();
    if !away.is_empty() {
        lines.push(String::new());
    }
    let problem = |worker: &&StageWorker| format!("{} {}: {}", worker.stage, worker.address, worker.problem);
    lines.extend(away.iter().map(problem));
    lines.join("\n")
}

/// For programs; `--help` explains the fields.
pub(super) fn object(server: &str, info: &ServerInfo) -> Value {
    let Totals { admitted_requests, refused_requests, images, failed_images, steps } = info.totals;
    let stages = workers::ready(&info.workers);
    let stages = stages.iter().map(|(stage, (ready, all))| json!({ "stage": stage, "workers": all, "ready": ready }));
    json!({
        "server": server,
        "answers": true,
        "ready": info.ready,
        "problem": problem(info.ready, &info.problem),
        "version": info.version,
        "uptime_seconds": info.uptime.as_secs_f64(),
        "queue": {
            "depth": info.queue_depth,
            "limit": info.queue_limit,
            "running": info.running_requests,
            "work_seconds": info.queued_work_seconds,
        },
        "totals": {
            "admitted_requests": admitted_requests,
            "refused_requests": refused_requests,
            "images": images,
            "failed_images": failed_images,
            "steps": steps,
        },
        "stages": stages.collect::<Vec<_>>(),
        "workers": info.workers.iter().map(worker).collect::<Vec<_>>(),
    })
}

/// The same where there was no answer, or an error.
pub(super) fn no_answer(server: &str, error: &Error) -> Value {
    json!({ "server": server, "answers": false, "ready": false, "problem": describe(error) })
}

fn worker(worker: &StageWorker) -> Value {
    json!({
        "stage": worker.stage,
        "address": worker.address,
        "state": worker.state,
        "ready": worker.ready,
        "problem": problem(worker.ready, &worker.problem),
        "model": worker.model,
        "served_model": worker.served_model,
        "revision": worker.revision,
        "precision": worker.precision,
        "device": worker.device,
        "version": worker.version,
        "seen_seconds_ago": worker.seen.map(|ago| ago.as_secs_f64()),
        "calls": worker.calls,
        "load": worker.load.map(|load| json!({
            "running": load.running,
            "waiting": load.waiting,
            "remaining_evaluations": load.remaining_evaluations,
            "remaining_seconds": load.remaining_seconds,
            "step_seconds": load.step_seconds,
            "running_pixels": load.running_pixels,
            "batch_pixels": load.batch_pixels,
        })),
    })
}

fn problem(ready: bool, words: &str) -> Option<&str> {
    (!ready).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::workers::tests::{denoiser, info, worker};

    #[test]
    fn the_text_says_what_is_there_and_what_is_wrong() {
        let mut info = info(vec![worker("vae", "ready"), denoiser("draining")]);
        let found = text("http://x:7000", &info, None);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines[0], "darkroom 0.1.0 at http://x:7000: ready, up 1 min 40 s");
        assert_eq!(lines[1], "queue: 12 of 1024 requests wait, 4 run; 41 s of work for one denoiser");
        assert_eq!(lines[2], "ready: denoiser 0 of 1, vae 1 of 1");
        assert_eq!(lines.last(), Some(&"denoiser 127.0.0.1:7003: it is draining"));
        (info.ready, info.problem) = (false, "denoiser: no worker is ready".into());
        let found = text("http://x:7000", &info, None);
        assert!(found.starts_with(
            "darkroom 0.1.0 at http://x:7000: not ready, up 1 min 40 s\n  denoiser: no worker is ready\n"
        ));
    }

    #[test]
    fn json_has_what_help_says() {
        let object = object("http://x:7000", &info(vec![worker("vae", "ready"), denoiser("draining")]));
        assert_eq!(object["problem"], Value::Null);
        assert_eq!(
            object["stages"],
            json!([{ "stage": "denoiser", "workers": 1, "ready": 0 }, { "stage": "vae", "workers": 1, "ready": 1 }])
        );
        assert_eq!(
            (&object["workers"][0]["load"], &object["workers"][1]["load"]["running"]),
            (&Value::Null, &json!(3))
        );
        for fields in
            [&object, &object["queue"], &object["totals"], &object["workers"][1], &object["workers"][1]["load"]]
        {
            for name in fields.as_object().unwrap().keys() {
                assert!(super::super::JSON_FIELDS.contains(name.as_str()), "--help says nothing of {name}");
            }
        }
    }
}
