//! What one connection does and what it leaves undone: what it is worth, and which of its times is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::flood::Allowance;
use super::frames::FrameReader;
use super::table::Standing;

/// Time for which a connection that was asked to leave may still stand without a call that runs.
const LEAVE: Duration = Duration::from_secs(5);

/// How long a connection may leave what undone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The handshake, or a request's head that has begun.
    pub(crate) handshake: Duration,
    /// Any call at all.
    pub(crate) idle: Duration,
    /// Taking what it asked for.
    pub(crate) stall: Duration,
}

/// What a connection is closed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// No place was free, and nobody's was worth less.
    Refused,
    /// Another connection got its place.
    Displaced,
    /// No handshake, or half a request's head.
    Handshake,
    /// No call.
    Idle,
    /// Answers that nobody takes.
    Stalled,
    /// Control frames without end.
    Flood,
    /// No answer to a keep-alive probe.
    Silent,
}

impl Reason {
    pub(crate) const ALL: [Self; 7] =
        [Self::Refused, Self::Displaced, Self::Handshake, Self::Idle, Self::Stalled, Self::Flood, Self::Silent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Displaced => "displaced",
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Flood => "flood",
            Self::Silent => "silent",
        }
    }
}

#[derive(Debug)]
struct Call {
    /// Its request has come in to its end.
    whole: bool,
    /// Since when a piece of its answer waits to be taken.
    untaken: Option<Instant>,
}

/// The frames of an HTTP/2 connection, both ways.
#[derive(Debug)]
struct Frames {
    received: FrameReader,
    sent: FrameReader,
    allowance: Allowance,
}

/// One connection's state. A plain struct that takes `now` as an argument.
#[derive(Debug)]
pub(crate) struct Activity {
    /// `None` for HTTP/1.
    frames: Option<Frames>,
    calls: BTreeMap<u64, Call>,
    next: u64,
    /// A request of it has come in whole, some time.
    proven: bool,
    /// Since when the handshake, or a head that has begun, is waited for.
    head_since: Option<Instant>,
    /// Since when there is no call.
    quiet_since: Instant,
    /// Since when the socket takes nothing.
    blocked_since: Option<Instant>,
    leaving_since: Option<Instant>,
}

impl Activity {
    pub(crate) fn of_http1(now: Instant) -> Self {
        Self {
            frames: None,
            calls: BTreeMap::new(),
            next: 0,
            proven: false,
            head_since: Some(now),
            quiet_since: now,
            blocked_since: None,
            leaving_since: None,
        }
    }

    pub(crate) fn of_http2(control_frames: u32, now: Instant) -> Self {
        let (received, sent) = (FrameReader::of_client(), FrameReader::of_server());
        let frames = Frames { received, sent, allowance: Allowance::new(control_frames, now) };
        Self { frames: Some(frames), ..Self::of_http1(now) }
    }

    /// Bytes came in. False when they hold a control frame too many.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) -> bool {
        let Some(Frames { received, allowance, .. }) = &mut self.frames else {
            if self.calls.is_empty() {
                self.head_since.get_or_insert(now);
            }
            return true;
        };
        let mut allowed = true;
        let mut heads = 0;
        let before = received.in_headers();
        received.read(bytes, |frame| {
            heads += usize::from(frame.is_head());
            allowed &= frame.is_payload() || allowance.take(now);
        });
        if !received.is_open() {
            return allowed;
        }
        // The head that had begun is still the same one, unless another began since.
        let same = before && heads == 0 && self.head_since.is_some();
        if !received.in_headers() {
            self.head_since = None;
        } else if !same {
            self.head_since = Some(now);
        }
        allowed
    }

    /// The socket took these bytes.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        if let Some(Frames { sent, allowance, .. }) = &mut self.frames {
            sent.read(bytes, |frame| {
                if frame.is_answer() {
                    allowance.answered();
                }
            });
        }
    }

    /// Whether a frame of our own may go out here.
    pub(crate) fn between_frames(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.sent.at_boundary())
    }

    /// Whether the socket takes what it is given.
    pub(crate) fn writable(&mut self, writable: bool, now: Instant) {
        if writable {
            self.blocked_since = None;
        } else {
            self.blocked_since.get_or_insert(now);
        }
    }

    /// A call's head is there, and its number is the answer.
    pub(crate) fn begin(&mut self, whole: bool) -> u64 {
        if self.frames.is_none() {
            self.head_since = None;
        }
        self.proven |= whole;
        self.next += 1;
        self.calls.insert(self.next, Call { whole, untaken: None });
        self.next
    }

    /// A call's request has come to its end.
    pub(crate) fn whole(&mut self, call: u64) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.whole = true;
            self.proven = true;
        }
    }

    /// A piece of a call's answer was handed out, or the last one was taken.
    pub(crate) fn handed(&mut self, call: u64, at: Option<Instant>) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.untaken = at;
        }
    }

    pub(crate) fn end(&mut self, call: u64, now: Instant) {
        self.calls.remove(&call);
        if self.calls.is_empty() {
            self.quiet_since = now;
        }
    }

    pub(crate) fn leave(&mut self, now: Instant) {
        self.leaving_since.get_or_insert(now);
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.calls.values().any(|call| call.whole) {
            Standing::Busy
        } else if self.proven {
            Standing::Idle
        } else {
            Standing::HalfOpen
        }
    }

    /// What the connection must be closed for now, if anything. One that runs no call is let go in peace.
    pub(crate) fn overdue(&self, patience: &Patience, now: Instant) -> Option<Reason> {
        let over =
            |since: Option<Instant>, most| since.is_some_and(|since| now.saturating_duration_since(since) >= most);
        let untaken = self.calls.values().filter_map(|call| call.untaken).min();
        if over(self.blocked_since, patience.stall) || over(untaken, patience.stall) {
            Some(Reason::Stalled)
        } else if over(self.head_since, patience.handshake) {
            Some(Reason::Handshake)
        } else if self.calls.is_empty() && over(Some(self.quiet_since), patience.idle) {
            Some(Reason::Idle)
        } else {
            None
        }
    }

    /// Whether it was asked to leave long enough ago, and has nothing that is worth waiting for.
    pub(crate) fn outstays(&self, now: Instant) -> bool {
        self.standing() != Standing::Busy
            && self.leaving_since.is_some_and(|since| now.saturating_duration_since(since) >= LEAVE)
    }
}

#[cfg(test)]
mod tests;
