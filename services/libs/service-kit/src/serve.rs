//! Serves the connections of a port, each by a task of its own that can be told to leave or to end.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming as HyperBody;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use crate::connections::{Line, Reason, Socket};
use crate::intake::Intake;
use crate::listener::Listener;
use crate::request_body::{Incoming, RequestBody, RequestLimits};
use crate::response_body::ResponseBody;
use crate::tls::ServerTls;

type BoxError = Box<dyn Error + Send + Sync>;

/// Accepts until `accepting` is cancelled, then closes the port and waits for the connections to end.
pub(crate) async fn connections<F>(listener: Listener, accepting: CancellationToken, serve: impl Fn(Socket) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let watch = tokio::spawn(listener.connections().clone().watch());
    let tasks = TaskTracker::new();
    while let Some(socket) = accepting.run_until_cancelled(listener.next()).await {
        tasks.spawn(serve(socket));
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    watch.abort();
}

/// One gRPC connection.
pub(crate) async fn grpc<S>(
    socket: Socket,
    tls: Option<ServerTls>,
    http2: http2::Builder<TokioExecutor>,
    routes: S,
    intake: Intake,
    limits: RequestLimits,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let line = socket.line().clone();
    if !says_something(&socket).await {
        return;
    }
    let Some(socket) = secured(socket, tls).await else {
        return;
    };
    let service = {
        let line = line.clone();
        service_fn(move |request: Request<HyperBody>| {
            let call = line.begin(request.body().is_end_stream());
            let place = intake.calls.holding(line.origin());
            let refused = place.take(1).err();
            let holding = Arc::new(intake.bytes.holding(line.origin()));
            let incoming = Incoming { holding, answered: Arc::new(AtomicBool::new(false)) };
            let end = call.request();
            let mut request =
                request.map(|body| Body::new(RequestBody::new(body, limits, incoming.clone(), end).refused(refused)));
            request.extensions_mut().insert(line.peer().clone());
            let routes = routes.clone();
            async move {
                let response = routes.oneshot(request).await?;
                incoming.answered.store(true, Ordering::Release);
                Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, call, Some(place))))
            }
        })
    };
    until_ended(&line, http2.serve_connection(TokioIo::new(socket), service)).await;
}

/// One connection of the HTTP port.
pub(crate) async fn http<S, B>(socket: Socket, http1: http1::Builder, routes: S)
where
    S: Service<Request<HyperBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let line = socket.line().clone();
    let service = {
        let line = line.clone();
        service_fn(move |request: Request<HyperBody>| {
            // Nobody reads bodies here.
            let call = line.begin(true);
            let routes = routes.clone();
            async move {
                let response = routes.oneshot(request).await?;
                Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, call, None)))
            }
        })
    };
    until_ended(&line, http1.serve_connection(TokioIo::new(socket), service)).await;
}

/// Waits for a client's first byte, which is due from it before anything is from here (RFC 9113, 3.4). Until then, or until it is
/// told to go, a connection takes none of what HTTP/2 takes.
async fn says_something(socket: &Socket) -> bool {
    let line = socket.line();
    tokio::select! {
        biased;
        () = line.cut().cancelled() => false,
        () = line.leave().cancelled() => false,
        readable = socket.readable() => readable.is_ok(),
    }
}

/// Puts TLS around a connection where the port speaks it. `None` when that came to nothing.
async fn secured(socket: Socket, tls: Option<ServerTls>) -> Option<Socket> {
    let Some(tls) = tls else { return Some(socket) };
    let line = socket.line().clone();
    let secured = tokio::select! {
        biased;
        () = line.cut().cancelled() => return None,
        () = line.leave().cancelled() => return None,
        secured = socket.secured(&tls) => secured,
    };
    secured.inspect_err(|error| tracing::debug!(peer = ?line.peer().addr(), "no TLS connection: {error}")).ok()
}

/// Drives a connection to its end, or to the moment when it is cut.
async fn until_ended(line: &Line, connection: impl Connection) {
    let mut connection = pin!(connection);
    let mut leaving = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = line.cut().cancelled() => break Ok(()),
            () = line.leave().cancelled(), if !leaving => {
                leaving = true;
                connection.as_mut().leave();
            }
            ended = &mut connection => break ended,
        }
    };
    // Known before any call of this connection is dropped for it.
    line.peer().set_gone();
    if let Err(error) = ended {
        if error.is_timeout() {
            line.close(Reason::Silent);
        }
        tracing::debug!(peer = ?line.peer().addr(), "a connection ended: {error}");
    }
}

/// What both versions of HTTP can be told.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Takes no further call, and ends with the last one.
    fn leave(self: Pin<&mut Self>);
}

impl<S, B> Connection for http1::Connection<TokioIo<Socket>, S>
where
    S: hyper::service::HttpService<HyperBody, ResBody = B>,
    S::Error: Into<BoxError>,
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B, E> Connection for http2::Connection<TokioIo<Socket>, S, E>
where
    S: hyper::service::HttpService<HyperBody, ResBody = B>,
    S::Error: Into<BoxError>,
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
