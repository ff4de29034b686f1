//! One service's two ports: gRPC with health and reflection, and HTTP for metrics and probes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::response::IntoResponse;
use darkroom_proto::FILE_DESCRIPTOR_SET;
use http::Request;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::{Service, ServiceBuilder};

use crate::calls::CallLayer;
use crate::connections::{Connections, Ends, Protocol};
use crate::deadline::DeadlineLayer;
use crate::drain::{Drain, ServiceHandle, Stop};
use crate::intake::Intake;
use crate::listener::Listener;
use crate::memory::MemoryGauges;
use crate::request_body::RequestLimits;
use crate::tls::ServerTls;
use crate::trace::CallerTraces;
use crate::{Metrics, Readiness, ServerConfig, State, http_port, serve};

/// How often recorded samples are moved into their histogram buckets, and memory is looked at.
const UPKEEP: Duration = Duration::from_secs(5);

/// HTTP/1's buffer cannot be smaller.
const LEAST_HTTP1_BUFFER: u32 = 8 << 10;

/// A service whose ports are bound and that has not started to serve.
pub struct Server {
    config: ServerConfig,
    metrics: Metrics,
    readiness: Readiness,
    grpc: Listener,
    http: Listener,
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    tls: Option<ServerTls>,
    health: HealthReporter,
    routes: Routes,
    names: Vec<&'static str>,
    callers: CallerTraces,
    stop: Stop,
}

impl Server {
    /// Binds both ports.
    ///
    /// # Errors
    /// When a port cannot be had, or a certificate cannot be used; the message names the key, and the address or file.
    pub async fn bind(name: &str, config: &ServerConfig, metrics: Metrics) -> anyhow::Result<Self> {
        let tls = ServerTls::of(config, &metrics)?;
        let stop = Stop::default();
        let bind = |key: &str, addr: SocketAddr, port, protocol, leave: &CancellationToken| {
            let ends = Ends { leave: leave.clone(), cut: stop.cut.clone() };
            Listener::bind(addr, Connections::new(port, protocol, config, &metrics, ends))
                .with_context(|| format!("{name} cannot listen on {key} {addr}, choose another address or port 0"))
        };
        let mut grpc = bind("grpc_addr", config.grpc_addr, "grpc", Protocol::Http2, &stop.accepting)?;
        let mut http = bind("http_addr", config.http_addr, "http", Protocol::Http1, &stop.http)?;
        grpc.share_files(&mut http);
        // A new reporter says SERVING, which is not so yet.
        let health = HealthReporter::new();
        health.set_service_status("", ServingStatus::NotServing).await;
        Ok(Self {
            config: config.clone(),
            readiness: Readiness::default(),
            grpc_addr: grpc.addr()?,
            http_addr: http.addr()?,
            grpc,
            http,
            tls,
            metrics,
            health,
            routes: Routes::default(),
            names: Vec::new(),
            callers: CallerTraces::Follow,
            stop,
        })
    }

    /// The latch that health, `/readyz` and [`ServiceHandle::ready`] follow. It starts as not ready.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Cancelled when the service has stopped: background tasks of the service end with it.
    pub fn stopped(&self) -> CancellationToken {
        self.stop.cut.clone()
    }

    /// What callers' own traces mean here; without it they are followed.
    #[must_use]
    pub fn caller_traces(mut self, callers: CallerTraces) -> Self {
        self.callers = callers;
        self
    }

    /// Adds a generated gRPC server. Its own limits (`max_decoding_message_size`) are set by the caller.
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    /// Starts to serve in the background and returns at once.
    ///
    /// # Errors
    /// When the reflection service cannot be built, which only a broken contract causes.
    pub fn serve(self) -> anyhow::Result<ServiceHandle> {
        let Self { config, metrics, readiness, health, stop, .. } = self;
        let routes = with_reflection(self.routes, &self.names)?
            .add_service(HealthServer::new(HealthService::from_health_reporter(health.clone())));
        tokio::spawn(follow(readiness.clone(), health, self.names));
        tokio::spawn(upkeep(metrics.clone(), stop.cut.clone()));

        let deadline = DeadlineLayer { service: metrics.service(), overtime: stop.overtime.clone() };
        let routes = ServiceBuilder::new()
            // From the outside in:
            // 1. the call: counts whatever code the layers below answer, catches their panics, and is a span where traces are made;
            .layer(CallLayer { metrics: metrics.clone(), callers: self.callers })
            // 2. the deadline: inside the count, so that DEADLINE_EXCEEDED is counted; around the handlers, so that it drops them.
            .layer(deadline)
            .service(routes.prepare());
        let (intake, limits) = (Intake::new(&config, &metrics), request_limits(&config));
        let (http2, tls) = (http2(&config), self.tls);
        let grpc = serve::connections(self.grpc, stop.accepting.clone(), move |socket| {
            serve::grpc(socket, tls.clone(), http2.clone(), routes.clone(), intake.clone(), limits)
        });

        let (http1, pages) = (http1(&config), http_port::router(metrics.clone(), readiness.clone()));
        let http = serve::connections(self.http, stop.http.clone(), move |socket| {
            serve::http(socket, http1.clone(), pages.clone())
        });
        let (grpc, http) = (tokio::spawn(grpc), tokio::spawn(http));

        let drain = Drain::new(Duration::from_secs(config.drain_grace_seconds), &metrics);
        Ok(ServiceHandle::new(self.grpc_addr, self.http_addr, readiness, stop, drain, grpc, http))
    }
}

/// What HTTP/2 itself bounds, beside what [`Connections`] does. A peer that resets streams faster than they are served is cut off by it.
fn http2(config: &ServerConfig) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(config.max_header_bytes)
        .keep_alive_interval(Duration::from_secs(config.keepalive_seconds))
        .keep_alive_timeout(Duration::from_secs(config.keepalive_timeout_seconds));
    builder
}

fn http1(config: &ServerConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The times of a head are watched where those of all connections are.
    builder.header_read_timeout(None).max_buf_size(config.max_header_bytes.max(LEAST_HTTP1_BUFFER) as usize);
    builder
}

fn request_limits(config: &ServerConfig) -> RequestLimits {
    RequestLimits {
        whole: Duration::from_secs(config.request_seconds),
        pause: Duration::from_secs(config.idle_seconds),
        message: config.max_message_bytes,
    }
}

/// Reflection in both versions, as old clients such as grpcurl 1.8 ask for v1alpha. It lists what this server serves, no more.
fn with_reflection(routes: Routes, names: &[&'static str]) -> anyhow::Result<Routes> {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for name in names {
            builder = builder.with_service_name(*name);
        }
        builder
    };
    let v1 = builder().with_service_name("grpc.reflection.v1.ServerReflection").build_v1()?;
    let v1alpha = builder().with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha()?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}

/// Keeps grpc.health.v1 in step with the latch, for the whole server ("") and each service.
async fn follow(readiness: Readiness, mut health: HealthReporter, mut names: Vec<&'static str>) {
    // The whole server first: who sees a service change then sees the server changed as well.
    names.insert(0, "");
    let mut states = readiness.subscribe();
    let mut told = None;
    loop {
        let state = states.borrow_and_update().clone();
        let status = if state == State::Ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        // Watchers hear changes, not every reason why it is still not ready.
        if told.replace(status) != Some(status) {
            for name in &names {
                health.set_service_status(name, status).await;
            }
        }
        if state == State::Draining {
            // An open Watch would hold its connection, and so the drain, for the whole grace: it ends here, after its last word.
            for name in &names {
                health.clear_service_status(name).await;
            }
            return;
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

async fn upkeep(metrics: Metrics, stopped: CancellationToken) {
    let memory = MemoryGauges::new(&metrics);
    while stopped.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        metrics.run_upkeep();
        memory.update();
    }
}
