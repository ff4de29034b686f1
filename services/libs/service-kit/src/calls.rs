//! What every call leaves behind: its metrics, its span, and an answer even when the handler panicked.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Span;

use crate::Metrics;
use crate::status::code_name;
use crate::trace::{self, CallerTraces};

/// Puts [`CallService`] around a server's routes.
#[derive(Debug, Clone)]
pub(crate) struct CallLayer {
    pub(crate) metrics: Metrics,
    pub(crate) callers: CallerTraces,
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { inner, layer: self.clone() }
    }
}

/// Counts and times each call until its last trailer, and turns a panic into INTERNAL.
#[derive(Debug, Clone)]
pub(crate) struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = Call::start(&self.layer, &request);
        let mut answer = Box::pin(self.inner.call(request));
        Box::pin(async move {
            let span = call.span.clone();
            let polled = poll_fn(|cx| {
                let _within = span.enter();
                match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            });
            let response = match polled.await {
                Ok(response) => response?,
                Err(panic) => call.panicked(&*panic).into_http(),
            };
            // A call that fails at once says so in its head and has no body.
            if let Some(status) = Status::from_header_map(response.headers()) {
                call.end(status.code());
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(CallBody { body: Some(body), call })))
        })
    }
}

/// One call from its head to its last trailer. Dropped without a code, it was cancelled by the client.
struct Call {
    metrics: Metrics,
    method: String,
    started: Instant,
    code: Option<Code>,
    span: Span,
}

impl Call {
    fn start(layer: &CallLayer, request: &Request<Body>) -> Self {
        let span = trace::call_span(request, layer.callers);
        let method = request.uri().path().trim_start_matches('/').to_owned();
        Self { metrics: layer.metrics.clone(), method, started: Instant::now(), code: None, span }
    }

    fn end(&mut self, code: Code) {
        self.code = Some(code);
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> Status {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        tracing::error!(method = %self.method, "the handler panicked: {text}");
        Status::internal("the handler failed, the service's log says how")
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _within = self.span.enter();
        let code = self.code.unwrap_or(Code::Cancelled);
        trace::answered(&self.span, code);
        let seconds = self.started.elapsed().as_secs_f64();
        // Anybody can call any path: those that do not exist share one label.
        let method = if code == Code::Unimplemented { "unknown" } else { &self.method };
        let labels = [("method", method), ("code", code_name(code))];
        self.metrics.counter("requests_total", "Calls answered, by method and gRPC code", &labels).increment(1);
        let help = "Time from a call's head to the end of its answer";
        self.metrics.histogram("request_seconds", help, &[("method", method)]).record(seconds);
        tracing::debug!(%method, code = code_name(code), seconds, "call ended");
    }
}

/// A response body that learns the call's code from the trailers and outlives a panic in the handler's stream.
struct CallBody {
    /// `None` once it panicked.
    body: Option<Body>,
    call: Call,
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body: Some(body), call } = &mut *self else {
            return Poll::Ready(None);
        };
        let polled = call.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))));
        let frame = match polled {
            Ok(poll) => std::task::ready!(poll),
            Err(panic) => {
                self.body = None;
                let mut trailers = HeaderMap::new();
                self.call.panicked(&*panic).add_header(&mut trailers)?;
                Some(Ok(Frame::trailers(trailers)))
            }
        };
        match &frame {
            None => _ = self.call.code.get_or_insert(Code::Unknown),
            Some(Err(status)) => self.call.end(status.code()),
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.end(status.code());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
