//! The way of a trace from one process to the next: the metadata of calls in W3C Trace Context's form.

use std::fmt;

use darkroom_proto::trace_context::{MOST_TRACESTATE_BYTES, TRACEPARENT, TRACESTATE, is_traceparent};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::MetadataMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Where a span is in its trace, so that a span of another trace can point at it.
#[derive(Clone)]
pub struct SpanLink(SpanContext);

impl SpanLink {
    /// The place of a span; `None` where nothing is traced.
    pub fn to(span: &Span) -> Option<Self> {
        if span.is_none() {
            return None;
        }
        let context = span.context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    pub(super) fn to_caller(caller: &Context) -> Self {
        Self(caller.span().span_context().clone())
    }

    /// Makes `span` point there.
    pub fn from(&self, span: &Span) {
        span.add_link(self.0.clone());
    }
}

impl fmt::Debug for SpanLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanLink({}/{})", self.0.trace_id(), self.0.span_id())
    }
}

/// The caller's span, if the headers name one. What is malformed counts as absent, as the standard has it.
pub(super) fn of_caller(headers: &HeaderMap) -> Option<Context> {
    let caller = Headers(headers);
    caller.get(TRACEPARENT)?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &caller);
    context.has_active_span().then_some(context)
}

/// Tells the callee the current span. Nothing where nothing is traced.
pub fn pass_on(metadata: &mut MetadataMap) {
    if super::is_on() {
        TraceContextPropagator::new().inject_context(&Context::current(), &mut Metadata(metadata));
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key).iter();
        let value = values.next()?.to_str().ok()?;
        let alone = values.next().is_none();
        let good = match key {
            TRACEPARENT => is_traceparent(value),
            TRACESTATE => value.len() <= MOST_TRACESTATE_BYTES,
            _ => false,
        };
        (alone && good).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        // A trace without a state has an empty one, which need not be sent.
        if value.is_empty() {
            return;
        }
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.as_mut().insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn caller(lines: &[(&'static str, &str)]) -> Option<SpanContext> {
        let mut map = HeaderMap::new();
        map.extend(headers(lines));
        of_caller(&map).map(|context| context.span().span_context().clone())
    }

    #[test]
    fn a_caller_is_who_the_headers_name() {
        let span = caller(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")]).unwrap();
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.span_id().to_string(), "b7ad6b7169203331");
        assert!(span.is_sampled() && span.is_remote());
        assert_eq!(span.trace_state().header(), "a=1,b=2");
        assert!(!caller(&[(TRACEPARENT, &format!("{}0", &PARENT[..PARENT.len() - 1]))]).unwrap().is_sampled());
    }

    #[test]
    fn what_is_malformed_is_absent() {
        assert!(caller(&[]).is_none());
        assert!(caller(&[(TRACESTATE, "a=1")]).is_none());
        for bad in ["", "hello", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(caller(&[(TRACEPARENT, bad)]).is_none(), "{bad}");
        }
        let mut twice = headers(&[(TRACEPARENT, PARENT)]);
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert!(of_caller(&twice).is_none());
        // A state that is too long, or none, is left out; the trace goes on.
        for bad in ["x".repeat(MOST_TRACESTATE_BYTES + 1), "no pair".into()] {
            let span = caller(&[(TRACEPARENT, PARENT), (TRACESTATE, &bad)]).unwrap();
            assert_eq!(span.trace_state().header(), "");
        }
    }

    #[test]
    fn nothing_is_passed_on_where_nothing_is_traced() {
        let mut metadata = MetadataMap::new();
        pass_on(&mut metadata);
        assert!(metadata.is_empty());
        assert!(SpanLink::to(&Span::none()).is_none());
    }
}
