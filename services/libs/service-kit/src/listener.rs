//! A port: accepts connections, finds places for them, and makes room when the process runs out of files.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use crate::connections::{Connections, Socket};

/// Connections that the kernel holds until they are accepted: in a flood the others wait behind it, and are not turned away.
const BACKLOG: u32 = 4096;

/// Rest after an accept that failed: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The same when somebody was told to go, who is gone soon.
const SHED_PAUSE: Duration = Duration::from_millis(1);

/// A bound port and the connections that came in by it.
pub(crate) struct Listener {
    listener: TcpListener,
    connections: Arc<Connections>,
}

impl Listener {
    /// Binds `addr`.
    pub(crate) fn bind(addr: SocketAddr, connections: Arc<Connections>) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A service that starts again gets its port though old connections linger.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, connections })
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// The next connection that gets a place.
    pub(crate) async fn next(&self) -> Socket {
        loop {
            let (stream, addr) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly for want of file descriptors: somebody who does nothing gives back one.
                    if self.connections.shed() {
                        tracing::debug!("made room for a connection that could not be accepted: {error}");
                        tokio::time::sleep(SHED_PAUSE).await;
                    } else {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            // Events are small and someone waits for each.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("cannot switch Nagle's algorithm off: {error}");
            }
            if let Some(socket) = self.connections.enter(stream, addr) {
                return socket;
            }
        }
    }
}
