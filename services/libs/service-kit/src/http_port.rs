//! The HTTP port: metrics for Prometheus, liveness and readiness for whoever runs the process.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::{Metrics, Readiness, State};

/// The Prometheus text format's version that the exporter writes.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/metrics`; `/healthz`, 200 while the process lives; `/readyz`, 200 when calls are taken, else 503 and why not.
pub(crate) fn router(metrics: Metrics, readiness: Readiness) -> Router {
    let render = move || async move { ([(header::CONTENT_TYPE, TEXT_FORMAT)], metrics.render()) };
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "live\n" }))
        .route("/readyz", get(move || async move { readyz(readiness.state()) }))
}

fn readyz(state: State) -> impl IntoResponse {
    match state {
        State::Ready => (StatusCode::OK, "ready\n".to_owned()),
        State::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        State::Waiting(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting: {why}\n")),
        State::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("failed: {why}\n")),
        State::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
    }
}
