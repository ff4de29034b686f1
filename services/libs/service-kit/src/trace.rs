//! Traces: the spans of a piece of work over all processes that it takes, for an OpenTelemetry collector.
//!
//! Spans are `tracing`'s own, of Darkroom's crates; events (`tracing::info!`) are for the log and are in no span. Spans exist only where
//! an `otlp_endpoint` is set ([`TraceConfig`]): everywhere else nobody asks for them, and making one is a look at a number.

mod call_span;
mod config;
mod context;
mod ending;
pub(crate) mod export;

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};

pub use call_span::{CallerTraces, failed};
pub(crate) use call_span::{answered, call_span};
pub use config::TraceConfig;
pub use context::{SpanLink, pass_on};
pub use ending::Ending;

/// Whether this process makes spans.
static ON: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

pub(crate) fn turn_on() {
    ON.store(true, Ordering::Relaxed);
}

/// The id of the trace that the caller of this function is in: 32 hexadecimal digits, also where it is not recorded. `None` outside of
/// any, and where nothing is traced.
pub fn trace_id() -> Option<String> {
    with_current(|span| span.trace_id().to_string())
}

/// Looks at the current span, if there is one.
pub(crate) fn with_current<T>(look: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    if !is_on() {
        return None;
    }
    Context::map_current(|context| {
        let span = context.span();
        let current = span.span_context();
        current.is_valid().then(|| look(current))
    })
}
