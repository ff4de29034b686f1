//! A listener that holds a bounded number of connections and can cut those that outstay a drain.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{Metrics, Peer};

/// Rest after an accept that failed, such as for want of file descriptors: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts up to a number of connections at once. One more is closed right after its accept: its client learns at once that
/// it must go elsewhere, and does not wait behind connections that may never end.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    cut: CancellationToken,
    open: Gauge,
    refused: Counter,
}

impl BoundedListener {
    /// Binds `addr`. `port` names the listener in metrics; connections end when `cut` is cancelled.
    pub(crate) async fn bind(
        addr: SocketAddr,
        port: &'static str,
        max_connections: usize,
        metrics: &Metrics,
        cut: CancellationToken,
    ) -> io::Result<Self> {
        let labels = [("port", port)];
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
            places: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            cut,
            open: metrics.gauge("connections", "Connections open now", &labels),
            refused: metrics.counter("connections_refused_total", "Connections closed for want of a place", &labels),
        })
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection that gets a place.
    pub(crate) async fn next(&self) -> Connection {
        loop {
            let (stream, addr) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = self.places.clone().try_acquire_owned() else {
                self.refused.increment(1);
                continue;
            };
            // Events are small and someone waits for each.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("cannot switch Nagle's algorithm off: {error}");
            }
            let place = Place::take(permit, self.open.clone());
            let cut = Box::pin(self.cut.clone().cancelled_owned());
            return Connection { stream, cut, addr, peer: Peer::at(addr), _place: place };
        }
    }

    /// The same as a stream. The port closes as soon as the stream is dropped.
    pub(crate) fn into_stream(self) -> ReceiverStream<io::Result<Connection>> {
        let (accepted, connections) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = accepted.closed() => return,
                    connection = self.next() => if accepted.send(Ok(connection)).await.is_err() { return },
                }
            }
        });
        ReceiverStream::new(connections)
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = self.next().await;
        let addr = connection.addr;
        (connection, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.addr()
    }
}

/// A connection's place among the allowed ones, given back by drop.
struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit, open: Gauge) -> Self {
        open.increment(1.0);
        Self { _permit: permit, open }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// An accepted connection. Reading fails once it is cut, which makes the HTTP layer drop everything that hangs on it.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    addr: SocketAddr,
    peer: Peer,
    _place: Place,
}

impl Connection {
    /// An error means the end, and is known here before any call of this connection is dropped for it.
    fn noted<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(outcome, Poll::Ready(Err(_))) {
            self.peer.set_gone();
        }
        outcome
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.set_gone();
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the service has stopped")));
        }
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) && room && buffer.filled().len() == before {
            self.peer.set_gone();
        }
        self.noted(read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
