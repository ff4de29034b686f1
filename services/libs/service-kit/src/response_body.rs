//! An answer's body, handed out in pieces small enough to tell whether somebody takes them.
//!
//! The HTTP layer asks for the next piece when there is room for the one before. A large message in one piece would vanish in its
//! buffers, and a call whose answer nobody reads would seem to have ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::connections::Call;
use crate::intake::Holding;

/// A frame of HTTP/2 as clients allow it without being asked.
const PIECE: usize = 16 << 10;

/// The body as the HTTP layer reads it. It holds the call, which ends when it is dropped.
pub(crate) struct ResponseBody<B> {
    body: B,
    rest: Bytes,
    call: Call,
    _place: Option<Holding>,
}

impl<B> ResponseBody<B> {
    /// `place` is what the call holds until its end.
    pub(crate) fn new(body: B, call: Call, place: Option<Holding>) -> Self {
        Self { body, rest: Bytes::new(), call, _place: place }
    }
}

impl<B> HttpBody for ResponseBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let me = &mut *self;
        me.call.taken();
        if me.rest.is_empty() {
            match ready!(Pin::new(&mut me.body).poll_frame(cx)?).map(Frame::into_data) {
                Some(Ok(data)) => me.rest = data,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let piece = me.rest.split_to(me.rest.len().min(PIECE));
        me.call.handed();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(inner.lower().saturating_add(rest));
        hint
    }
}
