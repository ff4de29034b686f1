//! Whether a call's connection still stands: a client that cancels and one that was cut off look the same to a handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Request;

/// The other end of a connection, in the extensions of each of its requests. Clones speak of the same connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    gone: Arc<AtomicBool>,
}

impl Peer {
    /// The peer that made a call; one that never goes when the call came over no connection of ours.
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Whether the connection has ended, from whichever side. A call that is dropped before that was cancelled by its caller.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }
}
