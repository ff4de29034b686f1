//! The gRPC edge: requests in, streams out. What a request means is decided behind it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use darkroom_proto::v1::image_generation_server::ImageGeneration;
use darkroom_proto::v1::{
    GenerateEvent, GenerateRequest, GenerationDefaults, GetServerInfoRequest, GetServerInfoResponse, ListModelsRequest,
    ListModelsResponse, Model as ModelMessage, StageWorker,
};
use darkroom_service_kit::{VERSION, deadline, status};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use crate::admission::Admission;
use crate::events::Events;
use crate::generate::{self, Generator};
use crate::job::Job;
use crate::model::Model;
use crate::queue::Work;
use crate::running::Running;
use crate::stages::calls::refusal;
use crate::stages::{Stages, Worker};
use crate::validate::{Limits, validate};

/// The public service.
pub(crate) struct ImageGenerationService {
    pub(crate) generator: Arc<Generator>,
    pub(crate) stages: Arc<Stages>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) running: Running,
    pub(crate) limits: Limits,
}

#[tonic::async_trait]
impl ImageGeneration for ImageGenerationService {
    type GenerateStream = EventStream;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<EventStream>, Status> {
        let arrived = Instant::now();
        let deadline = deadline::of(&request);
        let patience = self.generator.no_worker_wait;
        let model = self.stages.model_within(patience).await.map_err(|error| refusal(&error))?;
        let job = validate(request.into_inner(), &model, self.limits, rand::random)
            .map_err(|wrong| status::invalid_argument(wrong.field, wrong.message))?;
        let name = self.running.take(&job.request_id).ok_or_else(|| {
            Status::already_exists(format!("request_id: {:?} is still running, choose another", job.request_id))
        })?;
        let place = self
            .admission
            .enter(work(&job, &model))
            .map_err(|full| status::exhausted(full.to_string(), full.retry_after))?;
        tracing::info!(request_id = %job.request_id, images = job.num_images, "admitted");

        let (events, stream) = Events::channel(&job.request_id);
        let (job, model) = (Arc::new(job), Arc::new(model));
        let request = generate::Request { job, model, place, deadline, arrived, events };
        let running = Arc::clone(&self.generator).run(request);
        let task = tokio::spawn(async move {
            running.await;
            drop(name);
        });
        Ok(Response::new(EventStream { events: stream, _task: AbortOnDropHandle::new(task) }))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let model = self.stages.model().map_err(|error| refusal(&error))?;
        Ok(Response::new(ListModelsResponse { models: vec![model_message(model, self.limits)] }))
    }

    async fn get_server_info(
        &self,
        _: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        let (depth, limit) = self.admission.depth_and_limit();
        Ok(Response::new(GetServerInfoResponse {
            version: VERSION.into(),
            queue_depth: u32::try_from(depth).unwrap_or(u32::MAX),
            queue_limit: u32::try_from(limit).unwrap_or(u32::MAX),
            workers: self.stages.workers().iter().map(|worker| worker_message(worker)).collect(),
        }))
    }
}

/// A request's events. It owns the request's task: dropped by a client that leaves or by a deadline, it ends all work.
pub(crate) struct EventStream {
    events: ReceiverStream<Result<GenerateEvent, Status>>,
    _task: AbortOnDropHandle<()>,
}

impl Stream for EventStream {
    type Item = Result<GenerateEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

/// What the job costs, in rows × latent pixels × steps.
fn work(job: &Job, model: &Model) -> Work {
    let rows = if job.guided() { 2 } else { 1 };
    let pixels = u64::from(job.height / model.factor) * u64::from(job.width / model.factor);
    Work { images: job.num_images, steps: job.num_inference_steps, per_step: rows * pixels, priority: job.priority }
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
    }
}

fn worker_message(worker: &Worker) -> StageWorker {
    let info = worker.info();
    let common = info.as_deref().and_then(|info| info.common()).cloned().unwrap_or_default();
    StageWorker {
        stage: worker.stage.name().into(),
        address: worker.address.clone(),
        ready: worker.state() == "ready",
        model: common.model,
        revision: common.revision,
        precision: common.precision,
        device: common.device,
        version: common.version,
        problem: worker.problem().unwrap_or_default(),
    }
}
