//! The gRPC edge: requests in, streams out. What a request means is decided behind it.

use std::sync::Arc;
use std::time::Instant;

use darkroom_proto::v1::image_generation_server::ImageGeneration;
use darkroom_proto::v1::{
    GenerateRequest, GenerationDefaults, GetServerInfoRequest, GetServerInfoResponse, ListModelsRequest,
    ListModelsResponse, Model as ModelMessage, StageWorker,
};
use darkroom_service_kit::{Peer, Readiness, State, VERSION, deadline};
use tonic::{Request, Response, Status};

use crate::admission::{Admission, Place};
use crate::clients::{Client, Clients};
use crate::estimate::estimate;
use crate::events::Warning;
use crate::generate::{self, Generator};
use crate::inputs::{Files, Inputs};
use crate::job::{Job, Output, Priority};
use crate::model::Model;
use crate::results::Results;
use crate::running::{Entry, Listener, Running};
use crate::scheduler::Work;
use crate::stages::calls::refusal;
use crate::stages::{StageError, Stages, Worker};
use crate::validate::{Limits, validate};

/// The public service.
pub(crate) struct ImageGenerationService {
    pub(crate) generator: Arc<Generator>,
    pub(crate) stages: Arc<Stages>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) running: Running,
    pub(crate) results: Arc<Results>,
    pub(crate) inputs: Inputs,
    pub(crate) clients: Clients,
    pub(crate) limits: Limits,
    pub(crate) readiness: Readiness,
}

#[tonic::async_trait]
impl ImageGeneration for ImageGenerationService {
    type GenerateStream = Listener;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Listener>, Status> {
        let arrived = Instant::now();
        let (deadline, peer) = (deadline::of(&request), Peer::of(&request));
        let client = self.clients.of(request.metadata(), peer.addr())?;
        let (content, files) = Files::taken_of(request.into_inner()).await?;
        // First of all: a request that runs is joined even while new ones are refused.
        if !content.request_id.is_empty()
            && let Some(listener) = self.running.join(&content.request_id, &content, &peer)?
        {
            return Ok(Response::new(listener));
        }
        let model = self.model(&client, &content).await?;
        let files = files?;
        let init_size = files.as_ref().map(Files::size);
        let job = validate(content.clone(), &model, self.limits, init_size, rand::random)?;
        let shelf = self.results.shelf(&client.identity);
        let (name, listener) = match self.running.enter(&job.request_id, &content, &peer, shelf)? {
            Entry::Joined(listener) => return Ok(Response::new(listener)),
            Entry::New(name, listener) => (name, listener),
        };
        let warnings = lowered(job.priority, client.max_priority).into_iter().chain(unheard(&job, &model)).collect();
        let identity = Arc::clone(&client.identity);
        let place = self
            .admit(client, &job, &model, arrived, deadline)
            .inspect_err(|status| name.log().fail(status.clone()))?;
        let pictures = self.inputs.decode(files, &job, &identity).await;
        let pictures = pictures.inspect_err(|status| name.log().fail(status.clone()))?;
        tracing::info!(request_id = %job.request_id, images = job.num_images, "admitted");

        let (job, log) = (Arc::new(job), Arc::clone(name.log()));
        let request = generate::Request { job, model, pictures, place, deadline, arrived, log, warnings };
        name.begin(Arc::clone(&self.generator).run(request));
        Ok(Response::new(listener))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let model = self.stages.model().map_err(|error| refusal(&error))?;
        Ok(Response::new(ListModelsResponse { models: vec![model_message(Model::clone(&model), self.limits)] }))
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

impl ImageGenerationService {
    /// The model that is served. Who has to wait for one is work meanwhile: that is what denoisers are started for.
    async fn model(&self, client: &Client, content: &GenerateRequest) -> Result<Arc<Model>, Status> {
        let patience = self.generator.no_worker_wait;
        match self.stages.model() {
            Err(StageError::Away { .. }) if !patience.is_zero() => {}
            settled => return settled.map_err(|error| refusal(&error)),
        }
        let work = estimate(content, self.stages.last_model().as_deref(), self.limits);
        let _place = self.admission.enter_early(client, work).map_err(Status::from)?;
        self.stages.model_within(patience).await.map_err(|error| refusal(&error))
    }

    /// A place in the queue for a request that is new here.
    fn admit(
        &self,
        client: Client,
        job: &Job,
        model: &Model,
        arrived: Instant,
        deadline: Option<Instant>,
    ) -> Result<Place, Status> {
        if self.readiness.state() == State::Draining {
            return Err(Status::unavailable(
                "this orchestrator is shutting down and takes no new requests; try another one",
            ));
        }
        self.results.room(&client.identity)?;
        let decoded = job.output != Output::Latents;
        self.admission.enter(client, work(job, model), arrived, deadline, decoded).map_err(Status::from)
    }
}

/// The caveat of a priority above what the client may have.
fn lowered(asked: Priority, highest: Priority) -> Option<Warning> {
    let message = format!("{} is above what this client may have, {} was used", asked.name(), highest.name());
    (asked > highest).then_some(Warning { field: "priority", message })
}

/// The caveat of a negative prompt that the model has no use for.
fn unheard(job: &Job, model: &Model) -> Option<Warning> {
    let message = "it has no effect: the model looks at guidance_scale itself and computes nothing without the prompt";
    let unheard = model.embedded_guidance && !job.negative_prompt.is_empty();
    unheard.then(|| Warning { field: "negative_prompt", message: message.into() })
}

/// What the job costs.
fn work(job: &Job, model: &Model) -> Work {
    let rows = if job.guided(model) { 2 } else { 1 };
    let pixels = |[width, height]: [u32; 2]| u64::from(height / model.factor) * u64::from(width / model.factor);
    let evaluations = |steps| model.evaluations(&job.sampler, steps);
    let evaluations = match job.hires {
        None => evaluations(job.steps()),
        Some(_) => job.scaled_to_last(evaluations(job.steps())).saturating_add(evaluations(job.hires_steps())),
    };
    Work { images: job.num_images, evaluations, pixels: rows * pixels(job.final_size()), priority: job.priority }
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
