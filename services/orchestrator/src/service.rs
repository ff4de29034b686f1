//! The gRPC edge: requests in, streams out. What a request means is decided behind it.

use std::sync::Arc;
use std::time::Instant;

use darkroom_proto::v1::image_generation_server::ImageGeneration;
use darkroom_proto::v1::{
    GenerateRequest, GetServerInfoRequest, GetServerInfoResponse, ListModelsRequest, ListModelsResponse,
};
use darkroom_service_kit::trace::SpanLink;
use darkroom_service_kit::{Peer, Readiness, State, deadline};
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument, Span};

use crate::admission::Place;
use crate::answers;
use crate::audit::{Audit, Audited, Entry};
use crate::clients::{Allowances, Client, Clients};
use crate::estimate::estimate;
use crate::events::Warning;
use crate::generate;
use crate::inputs::{Files, Inputs};
use crate::job::{Job, Output, Priority};
use crate::lines::{Line, Lines};
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::results::Results;
use crate::running::{Entry as Entered, Listener, Running};
use crate::scheduler::Work;
use crate::stages::StageError;
use crate::stages::calls::refusal;
use crate::trace;
use crate::validate::{Limits, validate};

/// The public service.
pub(crate) struct ImageGenerationService {
    /// The models, each with its workers and its queue.
    pub(crate) lines: Lines,
    pub(crate) running: Running,
    pub(crate) results: Arc<Results>,
    pub(crate) inputs: Inputs,
    pub(crate) clients: Clients,
    pub(crate) allowances: Allowances,
    pub(crate) audit: Audit,
    pub(crate) metrics: Arc<OrchestratorMetrics>,
    pub(crate) limits: Limits,
    pub(crate) readiness: Readiness,
    pub(crate) started: Instant,
}

#[tonic::async_trait]
impl ImageGeneration for ImageGenerationService {
    type GenerateStream = Audited;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Audited>, Status> {
        let mut entry = self.audit.call("Generate", Peer::of(&request).addr());
        match self.take(request, &mut entry).await {
            Ok(listener) => Ok(Response::new(Audited::new(listener, entry))),
            Err(status) => {
                entry.end(status.code());
                Err(status)
            }
        }
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        self.look("ListModels", &request, || {
            Ok(ListModelsResponse { models: answers::models(&self.lines, self.limits)? })
        })
    }

    async fn get_server_info(
        &self,
        request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        self.look("GetServerInfo", &request, || Ok(answers::server(&self.lines, self.readiness.state(), self.started)))
    }
}

impl ImageGenerationService {
    /// Who calls.
    fn client<T>(&self, request: &Request<T>, entry: &mut Entry) -> Result<Client, Status> {
        let client = self.clients.of(request.metadata(), Peer::of(request).addr());
        let client = client.map_err(|(why, status)| {
            self.metrics.stranger(why);
            status
        })?;
        entry.client(&client);
        Ok(client)
    }

    /// A call that only looks. It leaves a line if it was refused.
    fn look<T, A>(
        &self,
        method: &'static str,
        request: &Request<T>,
        answer: impl FnOnce() -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        let mut entry = self.audit.call(method, Peer::of(request).addr());
        let answered = self.client(request, &mut entry).and_then(|_| answer());
        entry.end(answered.as_ref().err().map_or(Code::Ok, Status::code));
        answered.map(Response::new)
    }

    /// A request for pictures, until it is under way or joined.
    async fn take(&self, request: Request<GenerateRequest>, entry: &mut Entry) -> Result<Listener, Status> {
        let arrived = Instant::now();
        let (deadline, peer) = (deadline::of(&request), Peer::of(&request));
        entry.request_id(&request.get_ref().request_id);
        let client = self.client(&request, entry)?;
        self.allowances.call(&client)?;
        let (content, files) = Files::taken_of(request.into_inner()).await?;
        // First of all: a request that runs is joined even while new ones are refused.
        if !content.request_id.is_empty()
            && let Some(listener) = self.running.join(&content.request_id, &content, &peer)?
        {
            return Ok(listener);
        }
        let line = self.lines.of(&content.model)?;
        // Before any wait, so that who waits for the first denoiser counts; a number out of its range is refused below.
        let images = content.num_images.unwrap_or(1).clamp(1, self.limits.max_images);
        let permit = self.allowances.enter(&client, images)?;
        let model = self.model(line, &client, &content).await?;
        let files = files?;
        let init_size = files.as_ref().map(Files::size);
        let job = validate(content.clone(), &model, self.limits, init_size, rand::random)?;
        entry.job(&job, &model.name);
        let shelf = self.results.shelf(&client.identity);
        let (name, listener) = match self.running.enter(&job.request_id, &content, &peer, shelf)? {
            Entered::Joined(listener) => return Ok(listener),
            Entered::New(name, listener) => (name, listener),
        };
        Span::current().record("darkroom.request_id", &job.request_id);
        let span = trace::request(&job);
        name.log().set_span(SpanLink::to(&span));
        let warnings = lowered(job.priority, client.max_priority).into_iter().chain(unheard(&job, &model)).collect();
        let identity = Arc::clone(&client.identity);
        let admitted = self.admit(line, client, &job, &model, arrived, deadline);
        let total = if admitted.is_ok() { &line.metrics().admitted } else { &line.metrics().refused };
        total.increment(1);
        let place = admitted.inspect_err(|status| name.log().fail(status.clone()))?;
        let pictures = self.inputs.decode(files, &job, &identity).await;
        let pictures = pictures.inspect_err(|status| name.log().fail(status.clone()))?;
        tracing::info!(request_id = %job.request_id, images = job.num_images, "admitted");

        let (job, log) = (Arc::new(job), Arc::clone(name.log()));
        let request = generate::Request { job, model, pictures, place, permit, deadline, arrived, log, warnings };
        name.begin(Arc::clone(&line.generator).run(request).instrument(span));
        Ok(listener)
    }

    /// The model that a line serves. Who has to wait for one is work meanwhile: that is what denoisers are started for.
    async fn model(&self, line: &Line, client: &Client, content: &GenerateRequest) -> Result<Arc<Model>, Status> {
        let patience = line.generator.no_worker_wait;
        match line.stages.model() {
            Err(StageError::Away { .. }) if !patience.is_zero() => {}
            settled => return settled.map_err(|error| refusal(&error)),
        }
        let work = estimate(content, line.stages.last_model().as_deref(), self.limits);
        let _place = line.admission.enter_early(client, work).map_err(Status::from)?;
        line.stages.model_within(patience).await.map_err(|error| refusal(&error))
    }

    /// A place in the queue for a request that is new here.
    fn admit(
        &self,
        line: &Line,
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
        line.admission.enter(client, work(job, model), arrived, deadline, decoded).map_err(Status::from)
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
