//! A port: accepts connections, finds places for them, and makes room when the process runs out of files.

use std::cmp::Reverse;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use crate::connections::{Connections, Reason, Socket};

/// Connections that the kernel holds until they are accepted: in a flood the others wait behind it, and are not turned away.
const BACKLOG: u32 = 4096;

/// Rest after an accept that failed: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Who is told to go gives back its file within this time, or somebody else's turn comes.
const LEAVE_STEPS: u32 = 50;
const LEAVE_STEP: Duration = Duration::from_millis(1);

/// A bound port and the connections that came in by it.
pub(crate) struct Listener {
    listener: TcpListener,
    connections: Arc<Connections>,
    /// Those of the process's other port, which need files as well.
    others: Option<Arc<Connections>>,
    /// A file in reserve. Without one an accept fails though nobody waits, and nobody should have to go for that.
    spare: Mutex<Option<TcpSocket>>,
}

impl Listener {
    /// Binds `addr`.
    pub(crate) fn bind(addr: SocketAddr, connections: Arc<Connections>) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A service that starts again gets its port though old connections linger.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, connections, others: None, spare: Mutex::default() })
    }

    /// Lets the two make room for each other when the process runs out of files.
    pub(crate) fn share_files(&mut self, other: &mut Self) {
        self.others = Some(other.connections.clone());
        other.others = Some(self.connections.clone());
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
                // Mostly for want of file descriptors: then the one in reserve is for who comes now.
                Err(_) if self.spare().take().is_some() => continue,
                Err(error) => {
                    if !self.make_room().await {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            if !self.has_spare() && !self.make_room().await {
                self.connections.count(Reason::Refused);
                continue;
            }
            // Events are small and someone waits for each.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("cannot switch Nagle's algorithm off: {error}");
            }
            if let Some(socket) = self.connections.enter(stream, addr) {
                return socket;
            }
        }
    }

    /// Tells somebody who does nothing to go, on the port that has more, and waits for the file. False when all are busy.
    async fn make_room(&self) -> bool {
        let mut ports: Vec<&Arc<Connections>> = self.others.iter().chain([&self.connections]).collect();
        ports.sort_by_key(|connections| Reverse(connections.held()));
        if !ports.into_iter().any(|connections| connections.shed()) {
            return false;
        }
        for _ in 0..LEAVE_STEPS {
            tokio::time::sleep(LEAVE_STEP).await;
            if self.has_spare() {
                break;
            }
        }
        true
    }

    /// Whether there is a file in reserve, or could be put there.
    fn has_spare(&self) -> bool {
        let mut spare = self.spare();
        if spare.is_none() {
            *spare = TcpSocket::new_v4().ok();
        }
        spare.is_some()
    }

    fn spare(&self) -> MutexGuard<'_, Option<TcpSocket>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
