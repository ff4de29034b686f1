//! The socket of a connection, which notes what passes through it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Reason;
use super::line::Line;

/// GOAWAY for the whole connection: no stream, ENHANCE_YOUR_CALM, and the words that gRPC's clients know.
const GO_AWAY: &[u8] = b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// An accepted connection's socket.
pub(crate) struct Socket {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line }
    }

    /// The connection that it belongs to.
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Waits until there is something to read, or the end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// An error means the end, and is known here before any call of this connection is dropped for it.
    fn noted<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(outcome, Poll::Ready(Err(_))) {
            self.line.peer().set_gone();
        }
        outcome
    }

    /// Ends a connection that sends frames without end. It hears why if that fits between two frames.
    fn calm(&self) -> io::Error {
        if self.line.between_frames() {
            _ = self.stream.try_write(GO_AWAY);
        }
        self.line.peer().set_gone();
        self.line.close(Reason::Flood);
        io::Error::new(io::ErrorKind::ConnectionAborted, "too many control frames")
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.line.peer().set_gone();
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        ready!(self.noted(read))?;
        let bytes = &buffer.filled()[before..];
        if bytes.is_empty() {
            if room {
                self.line.peer().set_gone();
            }
        } else if !self.line.received(bytes) {
            return Poll::Ready(Err(self.calm()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.line.sent([data], taken(&written));
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.line.sent(slices.iter().map(|slice| &**slice), taken(&written));
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
