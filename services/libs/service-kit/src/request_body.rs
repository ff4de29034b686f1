//! A request's body, gathered message by message: within its time, within the memory for all, and before anybody makes room for it.
//!
//! tonic makes room for a message as soon as it has read the five bytes that announce its length. Here it gets these bytes together with
//! the message, so what a client announces costs nothing, and what it sends is counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use crate::connections::RequestEnd;
use crate::intake::Holding;

/// A compression flag and a length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// How long a request may take, and how large its messages may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLimits {
    /// From its head to its end.
    pub(crate) whole: Duration,
    /// Of a stream that is being answered: from one piece to the next.
    pub(crate) pause: Duration,
    /// Bytes of a message.
    pub(crate) message: usize,
}

/// What a request that is coming in shares with the call that it belongs to.
#[derive(Clone)]
pub(crate) struct Incoming {
    /// The memory that it holds.
    pub(crate) holding: Arc<Holding>,
    /// Whether the answer has begun. Then the request is a stream, which may go on as long as its client does.
    pub(crate) answered: Arc<AtomicBool>,
}

/// The body as its handler reads it.
pub(crate) struct RequestBody<B> {
    body: B,
    limits: RequestLimits,
    incoming: Incoming,
    end: RequestEnd,
    gathered: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
    timer: Pin<Box<Sleep>>,
    latest: Instant,
    /// What the handler finds instead of a request.
    refused: Option<Status>,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(body: B, limits: RequestLimits, incoming: Incoming, end: RequestEnd) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now + limits.whole));
        let gathered = BytesMut::new();
        Self { body, limits, incoming, end, gathered, trailers: None, ended: false, timer, latest: now, refused: None }
    }

    /// The same, of a call that is not to be: nothing of it is read.
    pub(crate) fn refused(mut self, status: Option<Status>) -> Self {
        self.refused = status;
        self
    }

    /// The next message with its prefix; what cannot become one, for the decoder to refuse; or the rest.
    fn message(&mut self) -> Option<Bytes> {
        let length = match self.gathered.first_chunk::<PREFIX>() {
            Some(&[_, a, b, c, d]) => u32::from_be_bytes([a, b, c, d]) as usize,
            None if self.ended && !self.gathered.is_empty() => return Some(self.gathered.split().freeze()),
            None => return None,
        };
        if self.ended || length > self.limits.message {
            return Some(self.gathered.split().freeze());
        }
        let whole = PREFIX + length;
        (self.gathered.len() >= whole).then(|| self.gathered.split_to(whole).freeze())
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        self.incoming.holding.take(data.len())?;
        self.gathered.extend_from_slice(data);
        self.latest = Instant::now();
        Ok(())
    }

    /// Resolves when the request has taken too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let streams = self.incoming.answered.load(Ordering::Acquire);
            let pause_over = self.latest + self.limits.pause;
            if streams && Instant::now() < pause_over {
                self.timer.as_mut().reset(pause_over);
                continue;
            }
            let text = if streams {
                format!("nothing more of the request came for idle_seconds = {}", self.limits.pause.as_secs())
            } else {
                format!("the request was not whole after request_seconds = {}", self.limits.whole.as_secs())
            };
            return Poll::Ready(Status::new(Code::DeadlineExceeded, text));
        }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = tonic::codegen::StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let me = &mut *self;
        if let Some(status) = me.refused.take() {
            return Poll::Ready(Some(Err(status.into())));
        }
        loop {
            if let Some(message) = me.message() {
                if me.incoming.answered.load(Ordering::Acquire) {
                    me.incoming.holding.keep(me.gathered.len());
                }
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            if me.ended {
                return Poll::Ready(me.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let Poll::Ready(frame) = Pin::new(&mut me.body).poll_frame(cx) else {
                let late = ready!(me.poll_late(cx));
                return Poll::Ready(Some(Err(late.into())));
            };
            match frame.transpose().map_err(Into::into)?.map(Frame::into_data) {
                Some(Ok(data)) => me.take(&data)?,
                Some(Err(other)) => me.trailers = other.into_trailers().ok(),
                None => me.ended = true,
            }
            if me.trailers.is_some() || me.body.is_end_stream() {
                me.ended = true;
            }
            if me.ended {
                me.end.reached();
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.refused.is_none()
            && self.gathered.is_empty()
            && self.trailers.is_none()
            && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
