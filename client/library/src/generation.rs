//! A running request as a stream of typed events that ends the work when it is dropped.
//!
//! The last event is handed out when the server has ended the stream, not before: most callers let go then, and each stream
//! that is let go while its end is under way is reset. HTTP/2 connections do not stand many of those.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use darkroom_proto::v1;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

use crate::event::Event;
use crate::{Error, Refusal, wire};

/// The server ends the work at the deadline and says so; this side waits a little longer before it gives up on a server
/// that says nothing.
const GRACE: Duration = Duration::from_secs(1);

/// The events of one request, until [`Event::Completed`] or an error. Dropping it cancels the request.
#[must_use = "dropping a generation cancels it"]
#[derive(Debug)]
pub struct Generation {
    events: Streaming<v1::GenerateEvent>,
    request_id: String,
    deadline: Option<Deadline>,
    /// The last event; the server's end of stream is still to come.
    completed: Option<Event>,
    ended: bool,
}

#[derive(Debug)]
struct Deadline {
    allowed: Duration,
    passed: Pin<Box<Sleep>>,
}

impl Generation {
    pub(crate) async fn start(
        mut rpc: ImageGenerationClient<Channel>,
        request: Request<v1::GenerateRequest>,
        allowed: Option<Duration>,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let request_id = request.get_ref().request_id.clone();
        let events = rpc.generate(request).await.map_err(|status| match allowed {
            // The transport's own timer calls a passed deadline CANCELLED.
            Some(allowed) if status.code() == Code::Cancelled && started.elapsed() >= allowed => too_late(allowed),
            _ => Error::from(status),
        })?;
        let deadline = allowed
            .map(|allowed| Deadline { allowed, passed: Box::pin(tokio::time::sleep_until(started + allowed + GRACE)) });
        Ok(Self { events: events.into_inner(), request_id, deadline, completed: None, ended: false })
    }

    /// The request's name: the caller's own, or the server's once the first event has come (empty before that).
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The end, for whatever reason: once everything was done, it is a good one.
    fn end(&mut self, error: impl FnOnce() -> Error) -> Poll<Option<Result<Event, Error>>> {
        self.ended = true;
        Poll::Ready(Some(self.completed.take().ok_or_else(error)))
    }
}

impl Stream for Generation {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.ended {
            match Pin::new(&mut this.events).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => {
                    if this.request_id.is_empty() {
                        this.request_id.clone_from(&message.request_id);
                    }
                    match wire::event(message) {
                        Some(Ok(event @ Event::Completed(_))) => this.completed = Some(event),
                        Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                        Some(Err(error)) => return this.end(|| error),
                        None => {}
                    }
                }
                Poll::Ready(Some(Err(status))) => return this.end(|| status.into()),
                Poll::Ready(None) => return this.end(cut_short),
                Poll::Pending => {
                    let Some(deadline) = &mut this.deadline else { return Poll::Pending };
                    if deadline.passed.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let allowed = deadline.allowed;
                    return this.end(|| too_late(allowed));
                }
            }
        }
        Poll::Ready(None)
    }
}

fn too_late(allowed: Duration) -> Error {
    Error::deadline_exceeded(format!("the request was not done within its deadline of {} s", allowed.as_secs_f64()))
}

fn cut_short() -> Error {
    Error::Refused(Box::new(Refusal {
        code: Code::Unavailable,
        message: "the server ended the stream before the request was completed".into(),
        field_violations: Vec::new(),
        retry_after: None,
    }))
}
