//! What the public door tells of the server: its models, its workers and its work, as messages.

use std::time::Instant;

use darkroom_proto::v1::{DenoiserLoad, GenerationDefaults, GetServerInfoResponse, Model as ModelMessage, StageWorker};
use darkroom_service_kit::{State, VERSION};
use tonic::Status;

use crate::admission::Backlog;
use crate::lines::{Line, Lines};
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::stages::calls::refusal;
use crate::stages::{Info, Worker};
use crate::totals::Total;
use crate::validate::Limits;

/// All models, in the order of the configuration.
pub(crate) fn models(lines: &Lines, limits: Limits) -> Result<Vec<ModelMessage>, Status> {
    lines.iter().map(|line| listed(line, limits)).collect()
}

/// The server since `started`: sums over all models, and each worker.
pub(crate) fn server(lines: &Lines, state: State, started: Instant) -> GetServerInfoResponse {
    let now = Instant::now();
    let backlogs: Vec<Backlog> = lines.iter().map(|line| line.admission.backlog()).collect();
    let sum = |of: fn(&Backlog) -> usize| count(backlogs.iter().map(of).sum());
    let total = |of: fn(&OrchestratorMetrics) -> &Total| lines.iter().map(|line| of(line.metrics()).get()).sum();
    GetServerInfoResponse {
        version: VERSION.into(),
        queue_depth: sum(|backlog| backlog.waiting),
        // The same for each of them.
        queue_limit: count(backlogs.iter().map(|backlog| backlog.limit).max().unwrap_or_default()),
        workers: lines.iter().flat_map(|line| workers(line, now)).collect(),
        ready: state == State::Ready,
        problem: problem(state).unwrap_or_default(),
        uptime_seconds: now.saturating_duration_since(started).as_secs_f64(),
        running_requests: sum(|backlog| backlog.running),
        queued_work_seconds: backlogs.iter().map(|backlog| backlog.work_seconds).sum(),
        refused_requests_total: total(|metrics| &metrics.refused),
        admitted_requests_total: total(|metrics| &metrics.admitted),
        images_total: total(|metrics| &metrics.images_total),
        failed_images_total: total(|metrics| &metrics.images_failed_total),
        steps_total: total(|metrics| &metrics.steps),
    }
}

/// A line's model. One that cannot be served now is told as it was last, with what it lacks, or with its name alone.
fn listed(line: &Line, limits: Limits) -> Result<ModelMessage, Status> {
    let error = match line.stages.model() {
        Ok(model) => return Ok(model_message(Model::clone(&model), limits)),
        Err(error) => error,
    };
    let Some(name) = &line.name else { return Err(refusal(&error)) };
    let known = line.stages.last_model().map(|model| model_message(Model::clone(&model), limits));
    Ok(ModelMessage { name: name.clone(), problem: error.to_string(), ..known.unwrap_or_default() })
}

fn model_message(model: Model, limits: Limits) -> ModelMessage {
    ModelMessage {
        name: model.name,
        defaults: Some(GenerationDefaults {
            width: model.defaults.width,
            height: model.defaults.height,
            guidance_scale: model.defaults.guidance_scale,
            num_inference_steps: model.defaults.num_inference_steps,
            sampler: model.defaults.sampler,
        }),
        samplers: model.samplers,
        min_side: model.min_side,
        max_side: model.max_side.min(limits.max_side),
        side_multiple: model.side_multiple,
        max_images: limits.max_images,
        max_clip_skip: model.max_clip_skip,
        // The begin and end markers take two positions.
        max_prompt_tokens: (model.max_tokens - 2) as u32,
        textual_inversions: model.textual_inversions,
        loras: model.loras,
        inpainting: model.inpainting,
        embedded_guidance: model.embedded_guidance,
        problem: String::new(),
    }
}

fn workers(line: &Line, now: Instant) -> Vec<StageWorker> {
    let served_model = line.name.as_deref().unwrap_or_default();
    line.stages.workers().iter().map(|worker| worker_message(worker, served_model, now)).collect()
}

fn worker_message(worker: &Worker, served_model: &str, now: Instant) -> StageWorker {
    let sight = worker.sight(now);
    let said = sight.said.as_deref();
    let common = said.and_then(Info::common).cloned().unwrap_or_default();
    let batch_pixels = match said {
        Some(Info::Denoiser(info)) => info.batch_pixels,
        _ => 0,
    };
    StageWorker {
        stage: worker.stage.name().into(),
        address: worker.address.clone(),
        ready: sight.state == "ready",
        model: common.model,
        revision: common.revision,
        precision: common.precision,
        device: common.device,
        version: common.version,
        problem: sight.problem.unwrap_or_default(),
        state: sight.state.into(),
        seen_seconds_ago: sight.seen.map(|ago| ago.as_secs_f64()),
        calls: count(sight.calls),
        load: sight.load.map(|load| DenoiserLoad {
            running: load.running,
            waiting: load.waiting,
            remaining_evaluations: load.remaining_evaluations,
            remaining_seconds: load.remaining_seconds,
            step_seconds: load.step_seconds,
            running_pixels: load.running_pixels,
            batch_pixels,
        }),
        served_model: served_model.to_owned(),
    }
}

/// Why nothing can be served; `None` where it can.
fn problem(state: State) -> Option<String> {
    match state {
        State::Ready => None,
        State::Starting => Some("it looks for its workers".into()),
        State::Waiting(why) | State::Failed(why) => Some(why),
        State::Draining => Some("it is shutting down".into()),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
