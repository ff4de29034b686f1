//! A caller's place in its own trace, sent along with a request: W3C Trace Context, without any tracing library.

use darkroom_proto::trace_context::{MOST_TRACESTATE_BYTES, TRACEPARENT, TRACESTATE, is_traceparent};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::Error;

/// The span that a request belongs to.
///
/// Whoever traces has its `traceparent` from its own library; command lines are commonly given it as the variable `TRACEPARENT`.
#[derive(Debug, Clone)]
pub struct TraceContext {
    traceparent: MetadataValue<Ascii>,
    tracestate: Option<MetadataValue<Ascii>>,
}

impl TraceContext {
    /// The span that a `traceparent` names: `00-TRACE_ID-SPAN_ID-FLAGS`.
    ///
    /// # Errors
    /// [`Error::TraceParent`] for anything else.
    pub fn new(traceparent: impl AsRef<str>) -> Result<Self, Error> {
        let text = traceparent.as_ref();
        let wrong = || Error::TraceParent { text: text.to_owned() };
        if !is_traceparent(text) {
            return Err(wrong());
        }
        Ok(Self { traceparent: text.parse().map_err(|_| wrong())?, tracestate: None })
    }

    /// What the caller's tracing systems say besides, as their `tracestate`; an empty one is left out.
    ///
    /// # Errors
    /// [`Error::TraceState`] for one that cannot be sent, or is longer than the server takes (512 bytes).
    pub fn tracestate(mut self, tracestate: impl AsRef<str>) -> Result<Self, Error> {
        let text = tracestate.as_ref();
        let wrong = || Error::TraceState { most: MOST_TRACESTATE_BYTES };
        let good = text.len() <= MOST_TRACESTATE_BYTES && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        self.tracestate = match (good, text) {
            (false, _) => return Err(wrong()),
            (true, "") => None,
            (true, text) => Some(text.parse().map_err(|_| wrong())?),
        };
        Ok(self)
    }

    pub(crate) fn write(self, metadata: &mut MetadataMap) {
        metadata.insert(TRACEPARENT, self.traceparent);
        if let Some(tracestate) = self.tracestate {
            metadata.insert(TRACESTATE, tracestate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn written(context: TraceContext) -> Vec<(String, String)> {
        let mut metadata = MetadataMap::new();
        context.write(&mut metadata);
        let pairs = metadata.as_ref().iter();
        pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn what_was_said_is_sent() {
        let parent = ("traceparent".to_owned(), PARENT.to_owned());
        assert_eq!(written(TraceContext::new(PARENT).unwrap()), std::slice::from_ref(&parent));
        let with_state = TraceContext::new(PARENT).unwrap().tracestate("a=1,b=2").unwrap();
        assert_eq!(written(with_state), [parent.clone(), ("tracestate".to_owned(), "a=1,b=2".to_owned())]);
        assert_eq!(written(TraceContext::new(PARENT).unwrap().tracestate("").unwrap()), [parent]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let error = TraceContext::new("00-1-2-01").unwrap_err();
        assert_eq!(error.code(), crate::Code::InvalidArgument);
        assert!(error.to_string().starts_with("traceparent: \"00-1-2-01\""), "{error}");
        for bad in ["x".repeat(MOST_TRACESTATE_BYTES + 1), "a=\u{7}".into(), "a=é".into()] {
            assert!(TraceContext::new(PARENT).unwrap().tracestate(&bad).is_err(), "{bad}");
        }
    }
}
