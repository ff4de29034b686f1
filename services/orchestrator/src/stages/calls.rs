//! Calls to the stages: each with a time limit of its own, each answer's tensors checked, each failure in terms of the stage.
//!
//! Tensors are passed on as they came: their dtype, shape and length are checked, their elements never read.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::tensor::{TensorError, TensorView};
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_proto::v1::{DecodeRequest, DenoiseRequest, Dtype, EncodeTextRequest, Tensor, TextEmbedding};
use darkroom_service_kit::status;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use super::denoising::Denoising;
use super::watch::reason;
use super::{Lease, Stage, StageError, Stages, Worker};
use crate::config::Config;
use crate::metrics::OrchestratorMetrics;
use crate::model::Model;
use crate::picture::Rgb;

/// A stage answers a deadline itself; this much later we stop listening.
const LISTEN_LONGER: Duration = Duration::from_millis(500);

/// What every call needs.
pub(crate) struct Calls {
    pub(crate) stages: Arc<Stages>,
    pub(crate) metrics: Arc<OrchestratorMetrics>,
    text_timeout: Duration,
    vae_timeout: Duration,
    stall: Duration,
    max_message_bytes: usize,
}

impl Calls {
    pub(crate) fn new(config: &Config, stages: Arc<Stages>, metrics: Arc<OrchestratorMetrics>) -> Self {
        Self {
            stages,
            metrics,
            text_timeout: Duration::from_secs(config.text_timeout_seconds),
            vae_timeout: Duration::from_secs(config.vae_timeout_seconds),
            stall: Duration::from_secs(config.denoise_stall_seconds),
            max_message_bytes: config.server.max_message_bytes,
        }
    }

    /// Encodes up to 16 prompts; one embedding each, f32 [max_tokens, hidden_size].
    pub(crate) async fn encode_text(
        &self,
        prompts: Vec<String>,
        clip_skip: u32,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Vec<TextEmbedding>, Status> {
        let started = Instant::now();
        let lease = self.lease(Stage::TextEncoder)?;
        let count = prompts.len();
        let mut client = TextEncoderClient::new(lease.worker().channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        let request = Request::new(EncodeTextRequest { prompts, clip_skip });
        let answer =
            bounded(lease.worker(), request, self.text_timeout, deadline, |request| client.encode_text(request));
        let embeddings = answer.await?.embeddings;
        if embeddings.len() != count {
            let message = format!("{count} prompts were sent, {} embeddings came back", embeddings.len());
            return Err(broken(lease.worker(), &message));
        }
        for embedding in &embeddings {
            let shape = [model.max_tokens, model.hidden_size];
            let bytes = checked(lease.worker(), embedding.prompt_embeds.as_ref(), "prompt_embeds", Dtype::F32, &shape)?;
            self.metrics.received(Stage::TextEncoder, bytes);
        }
        self.metrics.stage_seconds(Stage::TextEncoder.name(), started.elapsed());
        Ok(embeddings)
    }

    /// Starts to denoise one picture; the stream holds the worker until it drops.
    pub(crate) async fn denoise(
        &self,
        request: DenoiseRequest,
        model: &Model,
        deadline: Option<Instant>,
    ) -> Result<Denoising, Status> {
        let lease = self.lease(Stage::Denoiser)?;
        let size = [request.latent_height as usize, request.latent_width as usize];
        let embeds = [request.prompt_embeds.as_ref(), request.negative_prompt_embeds.as_ref()];
        self.metrics.sent(Stage::Denoiser, embeds.into_iter().flatten().map(|tensor| tensor.data.len()).sum());
        let mut client = DenoiserClient::new(lease.worker().channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        let mut request = Request::new(request);
        // The stall limit ends a stream that is silent; the caller's deadline is told to the worker, which ends the work.
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let answer = timeout(limit(self.stall, deadline), client.denoise(request));
        let stream = match answer.await {
            Ok(answer) => answer.map_err(|status| translate(lease.worker(), status, deadline))?.into_inner(),
            Err(_) => return Err(too_late(lease.worker(), self.stall, deadline)),
        };
        Ok(Denoising {
            stream,
            lease,
            size,
            channels: model.latent_channels,
            stall: self.stall,
            deadline,
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Latents to an 8-bit picture of `width` × `height` pixels.
    pub(crate) async fn decode(
        &self,
        latents: Tensor,
        width: u32,
        height: u32,
        deadline: Option<Instant>,
    ) -> Result<Rgb, Status> {
        let started = Instant::now();
        let lease = self.lease(Stage::Vae)?;
        self.metrics.sent(Stage::Vae, latents.data.len());
        let mut client = VaeClient::new(lease.worker().channel.clone())
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        let request = Request::new(DecodeRequest { latents: Some(latents) });
        let answer = bounded(lease.worker(), request, self.vae_timeout, deadline, |request| client.decode(request));
        let image = answer.await?.image;
        let shape = [height as usize, width as usize, 3];
        let bytes = checked(lease.worker(), image.as_ref(), "image", Dtype::U8, &shape)?;
        self.metrics.received(Stage::Vae, bytes);
        self.metrics.stage_seconds(Stage::Vae.name(), started.elapsed());
        Ok(Rgb { width, height, data: image.unwrap_or_default().data })
    }

    fn lease(&self, stage: Stage) -> Result<Lease, Status> {
        self.stages.lease(stage).map_err(|error| refusal(&error))
    }
}

/// A [`StageError`] for the client.
pub(crate) fn refusal(error: &StageError) -> Status {
    match error {
        StageError::Away { stage, why } => status::unavailable(stage.name(), why),
        StageError::Misfit(misfit) => status::failed_precondition(misfit.stage.name(), &misfit.message),
    }
}

/// A unary call that ends with the caller's deadline, or with its own limit if that comes first.
async fn bounded<A, B, F>(
    worker: &Worker,
    mut request: Request<A>,
    own: Duration,
    deadline: Option<Instant>,
    call: impl FnOnce(Request<A>) -> F,
) -> Result<B, Status>
where
    F: Future<Output = Result<Response<B>, Status>>,
{
    let limit = limit(own, deadline);
    let started = Instant::now();
    request.set_timeout(limit);
    match timeout(limit + LISTEN_LONGER, call(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if timed_out(&status) && started.elapsed() + LISTEN_LONGER >= limit => {
            Err(too_late(worker, own, deadline))
        }
        Ok(Err(status)) => Err(translate(worker, status, deadline)),
        Err(_) => Err(too_late(worker, own, deadline)),
    }
}

pub(super) fn limit(own: Duration, deadline: Option<Instant>) -> Duration {
    deadline.map_or(own, |deadline| own.min(deadline.saturating_duration_since(Instant::now())))
}

/// The caller's deadline, if that is what has come; else the worker is at fault.
pub(super) fn too_late(worker: &Worker, own: Duration, deadline: Option<Instant>) -> Status {
    if passed(deadline) {
        return status::deadline_exceeded();
    }
    let message = format!("{} did not answer within {} s", worker.address, own.as_secs());
    status::unavailable(worker.stage.name(), message)
}

/// Stages answer a deadline a little early.
fn passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now() + LISTEN_LONGER)
}

/// A stage says DEADLINE_EXCEEDED; tonic's own timer, here or there, says CANCELLED.
fn timed_out(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}

/// A stage's own status in terms of the request: where it happened is added, its code stays.
pub(super) fn translate(worker: &Worker, status: Status, deadline: Option<Instant>) -> Status {
    if timed_out(&status) && passed(deadline) {
        return status::deadline_exceeded();
    }
    let lost = std::error::Error::source(&status).is_some();
    if lost || status.code() == Code::Unavailable {
        let why = reason(&status);
        worker.suspect(&why);
        return status::unavailable(worker.stage.name(), format!("{}: {why}", worker.address));
    }
    let message = format!("{} at {}: {}", worker.stage.name(), worker.address, status.message());
    Status::with_details(status.code(), message, status.details().to_vec().into())
}

/// The length in bytes of a tensor that a stage sent, if it is what was asked for.
pub(super) fn checked(
    worker: &Worker,
    tensor: Option<&Tensor>,
    field: &'static str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<usize, Status> {
    let check = || -> Result<usize, TensorError> {
        let tensor = tensor.ok_or(TensorError::Missing { field })?;
        TensorView::new(tensor, field)?.expect_dtype(dtype)?.expect_shape(shape)?;
        Ok(tensor.data.len())
    };
    check().map_err(|error| broken(worker, &error.to_string()))
}

pub(super) fn broken(worker: &Worker, message: &str) -> Status {
    Status::internal(format!("{} at {} answered wrongly: {message}", worker.stage.name(), worker.address))
}
