//! Calls to the stages: each with a time limit of its own, each answer's tensors checked, and tried again on another worker
//! when the worker is at fault.
//!
//! Text encoders and VAEs are pure: a call that failed is simply made again elsewhere. A denoiser's work goes on from a
//! checkpoint, which `generate::denoise` sees to. Tensors are passed on as they came: their dtype, shape and length are checked,
//! their elements never read.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use darkroom_proto::tensor::{TensorError, TensorView};
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_proto::v1::{
    DecodeRequest, DecodeResponse, Dtype, EncodeRequest, EncodeTextRequest, Tensor, TextEmbedding,
};
use darkroom_service_kit::status::{self, code_name};
use darkroom_service_kit::trace::{Ending, pass_on};
use tokio::time::{timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tracing::{Instrument, Span};

use super::attempts::Attempts;
use super::fault::{Failure, LISTEN_LONGER, broken, hung, timed_out, too_late, translate};
use super::gate::Room;
use super::retry::{Got, Next, RetryBudget, Tries};
use super::silence::Patience;
use super::{Lease, Stage, StageError, Stages, Worker};
use crate::config::Config;
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::picture::Rgb;
use crate::trace;

/// What every call needs.
pub(crate) struct Calls {
    pub(crate) stages: Arc<Stages>,
    pub(crate) metrics: Arc<OrchestratorMetrics>,
    pub(super) patience: Patience,
    pub(super) max_message_bytes: usize,
    text_timeout: Duration,
    vae_timeout: Duration,
    /// How long work that has begun waits for a worker.
    pub(super) recovery_wait: Duration,
    pub(super) max_tries: u32,
    budget: Mutex<RetryBudget>,
}

/// A picture as a VAE gives it away.
pub(crate) struct Decoded {
    pub(crate) picture: Rgb,
    /// A `SafetyVerdict`, passed on as it came.
    pub(crate) safety: i32,
}

impl Calls {
    pub(crate) fn new(config: &Config, stages: Arc<Stages>, metrics: Arc<OrchestratorMetrics>) -> Self {
        let share = f64::from(config.retry_percent) / 100.0;
        Self {
            stages,
            metrics,
            patience: config.patience(),
            max_message_bytes: config.server.max_message_bytes,
            text_timeout: Duration::from_secs(config.text_timeout_seconds),
            vae_timeout: Duration::from_secs(config.vae_timeout_seconds),
            recovery_wait: config.recovery_wait(),
            max_tries: config.max_tries,
            budget: Mutex::new(RetryBudget::new(share, config.retry_reserve, Instant::now())),
        }
    }

    /// Encodes up to 16 prompts; one embedding each, f32 [windows * max_tokens, hidden_size].
    pub(crate) async fn encode_text(
        &self,
        request: EncodeTextRequest,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Vec<TextEmbedding>, Status> {
        let started = Instant::now();
        let _room = self.room(Stage::TextEncoder, deadline).await?;
        let call = |lease: Arc<Lease>| self.encode_text_once(lease, request.clone(), model, deadline);
        let embeddings = self.retrying(Stage::TextEncoder, "EncodeText", model, deadline, call).await?;
        self.metrics.stage_seconds(Stage::TextEncoder, started.elapsed());
        Ok(embeddings)
    }

    async fn encode_text_once(
        &self,
        lease: Arc<Lease>,
        request: EncodeTextRequest,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Vec<TextEmbedding>, Failure> {
        let (worker, count) = (lease.worker(), request.prompts.len());
        let mut client = TextEncoderClient::new(worker.channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        let answer = bounded(worker, request, self.text_timeout, deadline, |request| client.encode_text(request));
        let embeddings = answer.await?.embeddings;
        if embeddings.len() != count {
            return Err(broken(
                worker,
                &format!("{count} prompts were sent, {} embeddings came back", embeddings.len()),
            ));
        }
        for embedding in &embeddings {
            let shape = [embedding_rows(embedding, model), model.hidden_size];
            let bytes = checked(worker, embedding.prompt_embeds.as_ref(), "prompt_embeds", Dtype::F32, &shape)?;
            self.metrics.received(Stage::TextEncoder, bytes);
        }
        Ok(embeddings)
    }

    /// Latents to an 8-bit picture of `width` × `height` pixels, in a VAE's `room`.
    pub(crate) async fn decode(
        &self,
        request: DecodeRequest,
        [width, height]: [u32; 2],
        model: &Model,
        _room: Room,
        deadline: Option<Instant>,
    ) -> Result<Decoded, Status> {
        let started = Instant::now();
        let call = |lease: Arc<Lease>| self.decode_once(lease, request.clone(), [width, height], deadline);
        let decoded = self.retrying(Stage::Vae, "Decode", model, deadline, call).await?;
        self.metrics.stage_seconds(Stage::Vae, started.elapsed());
        Ok(decoded)
    }

    async fn decode_once(
        &self,
        lease: Arc<Lease>,
        request: DecodeRequest,
        [width, height]: [u32; 2],
        deadline: Option<Instant>,
    ) -> Result<Decoded, Failure> {
        let worker = lease.worker();
        self.metrics.sent(Stage::Vae, request.latents.as_ref().map_or(0, |latents| latents.data.len()));
        let mut client = self.vae(worker);
        let answer = bounded(worker, request, self.vae_timeout, deadline, |request| client.decode(request));
        let DecodeResponse { image, safety } = answer.await?;
        let shape = [height as usize, width as usize, 3];
        let bytes = checked(worker, image.as_ref(), "image", Dtype::U8, &shape)?;
        self.metrics.received(Stage::Vae, bytes);
        let picture = Rgb { width, height, data: image.unwrap_or_default().data };
        Ok(Decoded { picture, safety })
    }

    /// An 8-bit picture to latents, one `[latent_channels, height, width]` after the other for each of the request's draws.
    pub(crate) async fn encode(
        &self,
        request: EncodeRequest,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Tensor, Status> {
        let started = Instant::now();
        let _room = self.room(Stage::Vae, deadline).await?;
        let call = |lease: Arc<Lease>| self.encode_once(lease, request.clone(), model, deadline);
        let latents = self.retrying(Stage::Vae, "Encode", model, deadline, call).await?;
        self.metrics.stage_seconds(Stage::Vae, started.elapsed());
        Ok(latents)
    }

    async fn encode_once(
        &self,
        lease: Arc<Lease>,
        request: EncodeRequest,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Tensor, Failure> {
        let worker = lease.worker();
        let (picture, draws) = (request.image.clone().unwrap_or_default(), request.seeds.len().max(1));
        self.metrics.sent(Stage::Vae, picture.data.len() + request.mask.as_ref().map_or(0, |mask| mask.data.len()));
        let mut client = self.vae(worker);
        let answer = bounded(worker, request, self.vae_timeout, deadline, |request| client.encode(request));
        let latents = answer.await?.latents;
        let side = |at: usize| picture.shape.get(at).map_or(0, |side| (side / model.factor) as usize);
        let shape = [draws, model.latent_channels, side(0), side(1)];
        let bytes = checked(worker, latents.as_ref(), "latents", Dtype::F32, &shape)?;
        self.metrics.received(Stage::Vae, bytes);
        Ok(latents.unwrap_or_default())
    }

    fn vae(&self, worker: &Worker) -> VaeClient<Channel> {
        VaeClient::new(worker.channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes)
    }

    /// Makes a call on one worker after the other, until one answers or it is not the worker's fault.
    async fn retrying<T, F>(
        &self,
        stage: Stage,
        method: &'static str,
        model: &Model,
        deadline: Option<Instant>,
        call: impl Fn(Arc<Lease>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut attempts = Attempts::new(self, stage, model.pins.of(stage), 1, deadline);
        let mut attempt = 0;
        loop {
            let lease = Arc::new(attempts.lease().await?);
            let address = lease.worker().address.clone();
            let span = trace::call(stage, method, &address, attempt);
            let failure = match told(call(lease)).instrument(span).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let (fault, message) = (failure.fault, failure.status.message().to_owned());
            attempts.failed(address, failure, Got::Nowhere).await?;
            tracing::warn!(stage = stage.name(), reason = fault.name(), "tried again: {message}");
            self.metrics.retried(stage, fault);
            attempt += 1;
        }
    }

    /// A place for a call to `stage`, if one is free and nobody waits for it.
    pub(crate) fn room_now(&self, stage: Stage) -> Option<Room> {
        self.stages.gate(stage).try_enter()
    }

    /// A place for a call to `stage`, waiting for one in line.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`.
    pub(crate) async fn room(&self, stage: Stage, deadline: Option<Instant>) -> Result<Room, Status> {
        let enter = self.stages.gate(stage).enter();
        match deadline {
            None => Ok(enter.await),
            Some(deadline) => timeout_at(deadline.into(), enter).await.map_err(|_| status::deadline_exceeded()),
        }
    }

    /// A piece of work begins: it pays into the budget of tries, and has so many of its own.
    pub(super) fn begun(&self) -> Tries {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).called();
        Tries::new(self.max_tries)
    }

    /// Whether work that failed may be tried again; `got` as for [`Tries::failed`].
    ///
    /// # Errors
    /// The answer for the client, when it may not.
    pub(super) fn may_go_on(&self, tries: &mut Tries, failure: &Failure, got: Got) -> Result<(), Status> {
        let made = tries.made();
        match tries.failed(got) {
            Next::Free => Ok(()),
            Next::Paid if self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) => Ok(()),
            Next::Paid => {
                self.metrics.retries_refused_total.increment(1);
                Err(failure.clone().given_up(made, "the budget of tries is used up"))
            }
            Next::Stop => Err(failure.clone().given_up(made, "max_tries are used up")),
        }
    }
}

/// Rows that an embedding must have: those that it says it has, where that is a whole number of windows, else those of one.
fn embedding_rows(embedding: &TextEmbedding, model: &Model) -> usize {
    let said =
        embedding.prompt_embeds.as_ref().and_then(|tensor| tensor.shape.first()).map_or(0, |rows| *rows as usize);
    let windows = said / model.max_tokens;
    if (1..=model.max_windows).contains(&windows) { windows * model.max_tokens } else { model.max_tokens }
}

/// A [`StageError`] for the client.
pub(crate) fn refusal(error: &StageError) -> Status {
    match error {
        StageError::Away { stage, why } => status::unavailable(stage.name(), why),
        StageError::Misfit(misfit) => status::failed_precondition(misfit.stage.name(), &misfit.message),
    }
}

/// A call whose span learns how it ended.
async fn told<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let ending = Ending::of(&Span::current());
    let answer = call.await;
    match &answer {
        Ok(_) => ending.well("answered"),
        Err(failure) => ending.badly(failure.fault.name(), code_name(failure.status.code())),
    }
    answer
}

/// A unary call that ends with the caller's deadline, with its own limit if that comes first, or when the worker is lost.
async fn bounded<A, B, F>(
    worker: &Worker,
    message: A,
    own: Duration,
    deadline: Option<Instant>,
    call: impl FnOnce(Request<A>) -> F,
) -> Result<B, Failure>
where
    F: Future<Output = Result<Response<B>, Status>>,
{
    let limit = limit(own, deadline);
    let started = Instant::now();
    let mut request = Request::new(message);
    request.set_timeout(limit);
    pass_on(request.metadata_mut());
    let answer = tokio::select! {
        answer = timeout(limit + LISTEN_LONGER, call(request)) => answer,
        () = worker.lost() => return Err(hung(worker, "does not answer any more")),
    };
    match answer {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if timed_out(&status) && started.elapsed() + LISTEN_LONGER >= limit => {
            Err(too_late(worker, own, deadline))
        }
        Ok(Err(status)) => Err(translate(worker, status, deadline, false)),
        Err(_) => Err(too_late(worker, own, deadline)),
    }
}

pub(super) fn limit(own: Duration, deadline: Option<Instant>) -> Duration {
    deadline.map_or(own, |deadline| own.min(deadline.saturating_duration_since(Instant::now())))
}

/// The length in bytes of a tensor that a stage sent, if it is what was asked for.
pub(super) fn checked(
    worker: &Worker,
    tensor: Option<&Tensor>,
    field: &'static str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<usize, Failure> {
    let check = || -> Result<usize, TensorError> {
        let tensor = tensor.ok_or(TensorError::Missing { field })?;
        TensorView::new(tensor, field)?.expect_dtype(dtype)?.expect_shape(shape)?;
        Ok(tensor.data.len())
    };
    check().map_err(|error| broken(worker, &error.to_string()))
}
