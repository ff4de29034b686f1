//! The spans of a request, as services/TRACING.md lists them: what each is called and what it says.
//!
//! Each is made in the current span, which is its parent. Prompts and pictures are in none of them.

use darkroom_service_kit::trace::SpanLink;
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::job::{Format, Job};
use crate::stages::Stage;

/// From the moment when a request is known to be new to its last event.
pub(crate) fn request(job: &Job) -> Span {
    let [width, height] = job.final_size();
    info_span!(
        "request",
        darkroom.request_id = job.request_id,
        darkroom.model = job.model,
        darkroom.images = i64::from(job.num_images),
        darkroom.width = i64::from(width),
        darkroom.height = i64::from(height),
        darkroom.sampler = job.sampler,
        darkroom.num_inference_steps = i64::from(job.num_inference_steps),
        darkroom.priority = job.priority.name(),
        darkroom.outcome = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// Until the request's first picture may begin.
pub(crate) fn queue() -> Span {
    info_span!("queue")
}

/// Both texts, from memory or from a text encoder.
pub(crate) fn encode_text() -> Span {
    info_span!("encode_text")
}

/// What pictures begin from.
pub(crate) fn encode_image() -> Span {
    info_span!("encode_image")
}

/// One picture, in its slot and behind.
pub(crate) fn image(job: &Job, index: u32) -> Span {
    info_span!(
        "image",
        darkroom.image_index = i64::from(index),
        // Larger than what an attribute can hold as a number.
        darkroom.seed = %job.image_seed(index),
        darkroom.outcome = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// One worker's part in one pass of a picture.
pub(crate) fn denoise(worker: &str, attempt: u32, first_step: u32) -> Span {
    info_span!(
        "denoise",
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service(Stage::Denoiser),
        rpc.method = "Denoise",
        darkroom.worker = worker,
        darkroom.attempt = i64::from(attempt),
        darkroom.first_step = i64::from(first_step),
        darkroom.steps = Empty,
        darkroom.outcome = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// Latents to pixels, with the wait for a VAE's room.
pub(crate) fn decode() -> Span {
    info_span!("decode")
}

/// The writing of a picture's file.
pub(crate) fn picture_file(format: Format) -> Span {
    info_span!("picture_file", darkroom.media_type = format.media_type())
}

/// One call to a text encoder or a VAE.
pub(crate) fn call(stage: Stage, method: &'static str, worker: &str, attempt: u32) -> Span {
    let service = service(stage);
    info_span!(
        "call",
        otel.name = %format_args!("{service}/{method}"),
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        darkroom.worker = worker,
        darkroom.attempt = i64::from(attempt),
        darkroom.outcome = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// The current call has joined a request that another one began, whose span lies where the link says.
pub(crate) fn joined(request_id: &str, state: &str, request: Option<&SpanLink>) {
    let call = Span::current();
    call.record("darkroom.request_id", request_id);
    call.record("darkroom.joined", state);
    if let Some(request) = request {
        request.from(&call);
    }
}

fn service(stage: Stage) -> &'static str {
    match stage {
        Stage::TextEncoder => "darkroom.v1.TextEncoder",
        Stage::Denoiser => "darkroom.v1.Denoiser",
        Stage::Vae => "darkroom.v1.Vae",
    }
}
