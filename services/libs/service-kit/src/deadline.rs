//! Ends of calls that have not ended by themselves: at their deadline, and when the grace period of a drain is over.
//!
//! Every call that carries a `grpc-timeout` ends in time, with the right code, whether it answers once or streams.
//!
//! The caller's own clock runs as well, and what it says when it is first is less than we can: tonic's clients make it CANCELLED. So
//! [`DeadlineLayer`] ends a call a little before, covers a stream's body too, and answers DEADLINE_EXCEEDED. Dropping the body drops the handler's stream: work that is cancelled by drop needs
//! no clock of its own. The end of the grace period ends calls in the same way, with UNAVAILABLE: their clients go elsewhere.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower::{Layer, Service};

use crate::status;

/// The header of a call's timeout: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
const HEADER: &str = "grpc-timeout";

/// Our answer must be there before the caller's timer, started a moment earlier, fires: 5 % of the timeout, at most 20 ms.
const MARGIN_SHARE: u32 = 20;
const MARGIN_MOST: Duration = Duration::from_millis(20);

/// The instant at which a call must be answered, in its request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

/// The deadline of a call whose headers arrived just now; `None` when it has none or one that cannot be read.
pub fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    after(metadata.get(HEADER)?.to_str().ok()?)
}

/// The deadline that [`DeadlineLayer`] noted when the call came in, else that of its headers, counted from now.
pub fn of<T>(request: &tonic::Request<T>) -> Option<Instant> {
    let noted = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
    noted.or_else(|| deadline(request.metadata()))
}

/// Waits for `work`, at most until `deadline`, and drops it then.
///
/// # Errors
/// DEADLINE_EXCEEDED, or what `work` answers.
pub async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match deadline {
        None => work.await,
        Some(at) => timeout_at(at.into(), work).await.unwrap_or_else(|_| Err(status::deadline_exceeded())),
    }
}

fn after(header: &str) -> Option<Instant> {
    let timeout = parse(header)?;
    let margin = (timeout / MARGIN_SHARE).min(MARGIN_MOST);
    Instant::now().checked_add(timeout - margin)
}

/// `grpc-timeout` in words: TimeoutValue (1 to 8 digits) and TimeoutUnit (H M S m u n).
fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Puts [`DeadlineService`] around a server's routes.
#[derive(Debug, Clone)]
pub(crate) struct DeadlineLayer {
    /// The service's name.
    pub(crate) service: &'static str,
    /// Cancelled when the grace period is over.
    pub(crate) overtime: CancellationToken,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, layer: self.clone() }
    }
}

/// Ends each call at its deadline, or with the grace period.
#[derive(Debug, Clone)]
pub(crate) struct DeadlineService<S> {
    inner: S,
    layer: DeadlineLayer,
}

/// Resolves when a call must end, with what it then answers.
type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

impl DeadlineLayer {
    fn ending(&self, deadline: Option<Instant>) -> Ending {
        let Self { service, overtime } = self.clone();
        Box::pin(async move {
            let over = overtime.cancelled();
            match deadline {
                None => over.await,
                Some(deadline) => tokio::select! {
                    () = sleep_until(deadline.into()) => return status::deadline_exceeded(),
                    () = over => {}
                },
            }
            status::unavailable(service, "it is shutting down and its grace period is over; try another one")
        })
    }
}

impl<S> Service<Request<Body>> for DeadlineService<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let header = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
        let deadline = header.and_then(after);
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(Deadline(deadline));
        }
        let mut ending = self.layer.ending(deadline);
        let answer = self.inner.call(request);
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => Ok(answer?.map(|body| Body::new(EndingBody { body: Some(body), ending }))),
                status = &mut ending => Ok(status.into_http()),
            }
        })
    }
}

/// A response body that is cut off when its call must end.
struct EndingBody {
    /// `None` once it was cut off.
    body: Option<Body>,
    ending: Ending,
}

impl HttpBody for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        // What is ready goes out even when the end has come in the same moment.
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Poll::Ready(status) = self.ending.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.body = None;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_the_protocol_says() {
        let seconds = |header| parse(header).map(|timeout| timeout.as_secs_f64());
        assert_eq!(seconds("2H"), Some(7200.0));
        assert_eq!(seconds("3M"), Some(180.0));
        assert_eq!(seconds("15S"), Some(15.0));
        assert_eq!(seconds("250m"), Some(0.25));
        assert_eq!(seconds("99999999u"), Some(99.999999));
        assert_eq!(seconds("1n"), Some(1e-9));
        for bad in ["", "S", "1", "123456789S", "-1S", "+1S", "1 S", "1s", "1.5S", "1é"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_deadline_comes_a_little_before_the_callers_own() {
        let mut metadata = MetadataMap::new();
        assert_eq!(deadline(&metadata), None);
        metadata.insert(HEADER, "1S".parse().unwrap());
        let before = Instant::now();
        let left = deadline(&metadata).unwrap() - before;
        assert!(left > Duration::from_millis(970) && left < Duration::from_millis(990), "{left:?}");
    }

    #[tokio::test]
    async fn work_is_dropped_at_the_deadline() {
        let late = Some(Instant::now() + Duration::from_millis(5));
        let status = within(late, std::future::pending::<Result<(), Status>>()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(within(late, async { Ok(1) }).await.unwrap(), 1);
    }
}
