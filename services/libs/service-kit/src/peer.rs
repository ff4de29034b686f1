//! Who is at the other end of a call's connection, and whether it still stands: a client that cancels and one that was cut off look
//! the same to a handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Request;

/// The other end of a connection, in the extensions of each of its requests. Clones speak of the same connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    addr: Option<SocketAddr>,
    gone: Arc<AtomicBool>,
}

impl Peer {
    pub(crate) fn at(addr: SocketAddr) -> Self {
        Self { addr: Some(addr), gone: Arc::default() }
    }

    /// The peer that made a call. One that came over no connection of ours never goes, and has an address if tonic knows one.
    pub fn of<T>(request: &Request<T>) -> Self {
        let known = request.extensions().get::<Self>().cloned();
        known.unwrap_or_else(|| Self { addr: request.remote_addr(), gone: Arc::default() })
    }

    /// Where the connection comes from: the client itself, or the last proxy before us.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Whether the connection has ended, from whichever side. A call that is dropped before that was cancelled by its caller.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }
}
