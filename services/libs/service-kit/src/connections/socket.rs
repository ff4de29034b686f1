//! The socket of a connection, which notes what passes through it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::activity::Reason;
use super::line::Line;
use crate::tls::ServerTls;

/// GOAWAY for the whole connection: no stream, ENHANCE_YOUR_CALM, and the words that gRPC's clients know.
const GO_AWAY: &[u8] = b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// An accepted connection's socket. What it notes is what is said inside TLS.
pub(crate) struct Socket {
    stream: Stream,
    line: Gone,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection whose peer is gone with the socket.
struct Gone(Arc<Line>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.peer().set_gone();
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream: Stream::Plain(stream), line: Gone(line) }
    }

    /// The connection that it belongs to.
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line.0
    }

    /// Waits until there is something to read, or the end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Plain(stream) => stream.readable().await,
            Stream::Tls(stream) => stream.get_ref().0.readable().await,
        }
    }

    /// The same connection behind TLS. The time for it is the handshake's, which is watched from the start.
    pub(crate) async fn secured(self, tls: &ServerTls) -> io::Result<Self> {
        let Self { stream, line } = self;
        let stream = match stream {
            Stream::Plain(stream) => Stream::Tls(Box::new(tls.accept(stream).await?)),
            secured @ Stream::Tls(_) => secured,
        };
        Ok(Self { stream, line })
    }

    /// An error means the end, and is known here before any call of this connection is dropped for it.
    fn noted<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(outcome, Poll::Ready(Err(_))) {
            self.line().peer().set_gone();
        }
        outcome
    }

    /// Ends a connection that sends frames without end. It hears why if that fits between two frames.
    fn calm(&mut self) -> io::Error {
        if self.line().between_frames() {
            // At once or not at all: nobody waits for one who floods.
            let mut at_once = Context::from_waker(Waker::noop());
            if self.stream().poll_write(&mut at_once, GO_AWAY).is_ready() {
                _ = self.stream().poll_flush(&mut at_once);
            }
        }
        self.line().peer().set_gone();
        self.line().close(Reason::Flood);
        io::Error::new(io::ErrorKind::ConnectionAborted, "too many control frames")
    }

    fn stream(&mut self) -> Pin<&mut dyn Both> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(stream) => Pin::new(stream),
        }
    }
}

/// What is read from and written to.
trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let read = self.stream().poll_read(cx, buffer);
        ready!(self.noted(read))?;
        let bytes = &buffer.filled()[before..];
        if bytes.is_empty() {
            if room {
                self.line().peer().set_gone();
            }
        } else if !self.line().received(bytes) {
            return Poll::Ready(Err(self.calm()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, data);
        self.line().sent([data], taken(&written));
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(cx, slices);
        self.line().sent(slices.iter().map(|slice| &**slice), taken(&written));
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

/// How many bytes a write got rid of; `None` when it waits.
fn taken(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Ready(Ok(length)) => Some(*length),
        Poll::Ready(Err(_)) => Some(0),
        Poll::Pending => None,
    }
}
