//! One connection, as all parts that deal with it share it: its socket, its calls, the task that serves it, and the watch over its times.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Patience, Reason};
use super::origin::Origin;
use super::table::Standing;
use super::{Connections, Ends};
use crate::Peer;

/// A connection that has a place. It gives it back by drop.
pub(crate) struct Line {
    id: u64,
    peer: Peer,
    origin: Origin,
    activity: Mutex<Activity>,
    connections: Arc<Connections>,
    closed: AtomicBool,
    /// It takes no further call, says so, and ends with its last one.
    leave: CancellationToken,
    /// It ends now.
    cut: CancellationToken,
}

impl Line {
    pub(super) fn new(
        id: u64,
        addr: SocketAddr,
        activity: Activity,
        connections: Arc<Connections>,
        ends: &Ends,
    ) -> Arc<Self> {
        connections.open.increment(1.0);
        Arc::new(Self {
            id,
            peer: Peer::at(addr),
            origin: Origin::of(addr),
            activity: Mutex::new(activity),
            connections,
            closed: AtomicBool::new(false),
            leave: ends.leave.child_token(),
            cut: ends.cut.child_token(),
        })
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// When the connection must say that it leaves.
    pub(crate) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// When the connection must end.
    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Notes bytes that came in. False when the connection is to be closed for them.
    pub(super) fn received(&self, bytes: &[u8]) -> bool {
        self.activity().received(bytes, Instant::now())
    }

    /// Notes what a write came to: how many bytes of `slices` the socket took, if any.
    pub(super) fn sent<'a>(&self, slices: impl IntoIterator<Item = &'a [u8]>, taken: Option<usize>) {
        let mut activity = self.activity();
        activity.writable(taken.is_some(), Instant::now());
        let mut left = taken.unwrap_or(0);
        for slice in slices {
            let sent = left.min(slice.len());
            activity.sent(&slice[..sent]);
            left -= sent;
        }
    }

    pub(super) fn between_frames(&self) -> bool {
        self.activity().between_frames()
    }

    /// A call whose head is there, and with it its whole request if it is `whole`.
    pub(crate) fn begin(self: &Arc<Self>, whole: bool) -> Call {
        let number = self.change(|activity| activity.begin(whole));
        Call { line: self.clone(), number }
    }

    /// Closes the connection, once, and counts why.
    pub(crate) fn close(&self, reason: Reason) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.connections.count(reason);
        tracing::debug!(peer = ?self.peer.addr(), port = self.connections.port, reason = reason.name(), "closing a connection");
        if reason == Reason::Idle {
            self.depart();
        } else {
            self.cut.cancel();
        }
    }

    /// Closes the connection because another one got its place.
    pub(super) fn displaced(&self, at_once: bool) {
        if at_once || self.activity().standing() == Standing::HalfOpen {
            return self.close(Reason::Displaced);
        }
        // A call that came in the same moment still finishes.
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.connections.count(Reason::Displaced);
            self.depart();
        }
    }

    fn depart(&self) {
        self.activity().leave(Instant::now());
        self.leave.cancel();
    }

    /// Closes the connection when one of its times is over.
    pub(super) fn watch(&self, patience: &Patience, now: Instant) {
        let (overdue, outstays) = {
            let activity = self.activity();
            (activity.overdue(patience, now), activity.outstays(now))
        };
        match overdue {
            // It was told so before, and has its time to leave.
            Some(Reason::Idle) if self.leave.is_cancelled() => {}
            Some(reason) => {
                self.close(reason);
                // It may have been asked to leave before.
                if reason != Reason::Idle {
                    self.cut.cancel();
                }
                return;
            }
            None => {}
        }
        if outstays {
            self.cut.cancel();
        }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the connection does, and tells the table if it is worth more or less now.
    fn change<T>(&self, change: impl FnOnce(&mut Activity) -> T) -> T {
        let mut activity = self.activity();
        let before = activity.standing();
        let result = change(&mut activity);
        let after = activity.standing();
        if before != after {
            // Under the connection's lock, so that the table hears of changes in their order.
            self.connections.settle(self.id, after);
        }
        result
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.peer.set_gone();
        self.connections.leave(self.id);
    }
}

/// A call on a connection, ended by drop.
pub(crate) struct Call {
    line: Arc<Line>,
    number: u64,
}

impl Call {
    /// A piece of its answer goes out.
    pub(crate) fn handed(&self) {
        self.line.activity().handed(self.number, Some(Instant::now()));
    }

    /// The piece before was taken.
    pub(crate) fn taken(&self) {
        self.line.activity().handed(self.number, None);
    }

    /// Whoever reads the request says with it that there is no more.
    pub(crate) fn request(&self) -> RequestEnd {
        RequestEnd { line: self.line.clone(), number: self.number }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.line.change(|activity| activity.end(self.number, Instant::now()));
    }
}

/// Notes that a call's request is whole.
pub(crate) struct RequestEnd {
    line: Arc<Line>,
    number: u64,
}

impl RequestEnd {
    pub(crate) fn reached(&self) {
        self.line.change(|activity| activity.whole(self.number));
    }
}
