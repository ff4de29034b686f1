//! The spans of a piece of work on its way through an engine: in line, then computed.

use tracing::field::Empty;
use tracing::{Span, info_span};

/// Work that waits: the span of whoever submitted it, and that of its waiting. Both are none where nothing is traced.
#[derive(Debug)]
pub(crate) struct InLine {
    caller: Span,
    queue: Span,
}

impl InLine {
    /// The waiting begins, by order of the current span.
    pub(crate) fn enter() -> Self {
        let caller = Span::current();
        // Without a caller's span, this would be a trace of its own.
        let queue = if caller.is_none() { Span::none() } else { info_span!(parent: &caller, "queue") };
        Self { caller, queue }
    }

    /// The work is taken up: the span of its computing, which ends when it is dropped.
    pub(crate) fn leave(self) -> Span {
        let Self { caller, queue } = self;
        drop(queue);
        if caller.is_none() {
            return Span::none();
        }
        info_span!(parent: &caller, "compute", darkroom.evaluations = Empty)
    }
}
