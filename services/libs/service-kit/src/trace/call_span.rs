//! The span of a call that this process answers.

use http::Request;
use tonic::Code;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::context::{SpanLink, of_caller};
use crate::status::code_name;

/// Calls that are pieces of work. Looks at health, load and models come every second and would bury them; and anybody can call any
/// path, so a span's name is one of these.
const WORK: [(&str, &str); 5] = [
    ("darkroom.v1.ImageGeneration", "Generate"),
    ("darkroom.v1.TextEncoder", "EncodeText"),
    ("darkroom.v1.Denoiser", "Denoise"),
    ("darkroom.v1.Vae", "Decode"),
    ("darkroom.v1.Vae", "Encode"),
];

/// What a caller's own trace means to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerTraces {
    /// It goes on here, recorded or not as the caller decided.
    #[default]
    Follow,
    /// A trace of our own begins and points at the caller's: for strangers, who then decide nothing.
    Link,
}

/// The span of a call whose head has come in; none where nothing is traced, or for a call that is no work.
pub(crate) fn call_span<B>(request: &Request<B>, callers: CallerTraces) -> Span {
    if !super::is_on() {
        return Span::none();
    }
    let path = request.uri().path();
    let Some((service, method)) = WORK.into_iter().find(|(service, method)| is_path(path, service, method)) else {
        return Span::none();
    };
    let span = info_span!(
        parent: None,
        "call",
        otel.name = &path[1..],
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        "error.type" = Empty,
        darkroom.request_id = Empty,
        darkroom.joined = Empty,
    );
    match (of_caller(request.headers()), callers) {
        // The layer is there, and the span has not begun: nothing stands in the way of a parent.
        (Some(caller), CallerTraces::Follow) => _ = span.set_parent(caller),
        (Some(caller), CallerTraces::Link) => SpanLink::to_caller(&caller).from(&span),
        (None, _) => {}
    }
    span
}

fn is_path(path: &str, service: &str, method: &str) -> bool {
    path.strip_prefix('/').and_then(|path| path.strip_prefix(service)?.strip_prefix('/')) == Some(method)
}

/// Writes down how a call ended. What the caller did wrong is no error of the server's span
/// (OpenTelemetry's conventions for gRPC, "Status of spans").
pub(crate) fn answered(span: &Span, code: Code) {
    if span.is_none() {
        return;
    }
    span.record("rpc.grpc.status_code", code as i32);
    let ours =
        [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];
    if ours.contains(&code) {
        failed(span, code_name(code));
    } else if code != Code::Ok {
        span.record("error.type", code_name(code));
    }
}

/// Marks a span as one that failed, with the kind of failure in a word.
pub fn failed(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}
