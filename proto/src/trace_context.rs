//! The metadata by which a call belongs to its caller's trace: W3C Trace Context (<https://www.w3.org/TR/trace-context/>), checked.

/// Names the caller's trace and span, and says whether they are recorded: `00-TRACE_ID-SPAN_ID-FLAGS` in lower-case hexadecimal.
pub const TRACEPARENT: &str = "traceparent";
/// What the caller's tracing systems say besides: `key=value,…`.
pub const TRACESTATE: &str = "tracestate";
/// Of a [`TRACESTATE`] that is passed on. The standard wants 512 passed on at least; longer ones cost every span and call.
pub const MOST_TRACESTATE_BYTES: usize = 512;

/// Hexadecimal digits of a version, a trace's id, a span's id and flags.
const DIGITS: [usize; 4] = [2, 32, 16, 2];
/// The version that a caller must not use.
const NO_VERSION: &str = "ff";

/// Whether a `traceparent` can be followed: version 00 exactly, or a later one that begins as that does.
pub fn is_traceparent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let right = |(part, digits): (Option<&str>, usize)| {
        part.is_some_and(|part| {
            part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let named = |part: &str| part.bytes().any(|byte| byte != b'0');
    let [version, trace, span, flags] = [(); 4].map(|()| parts.next());
    let shape = [version, trace, span, flags].into_iter().zip(DIGITS).all(right);
    let ids = trace.is_some_and(named) && span.is_some_and(named);
    let version = match version {
        Some("00") => parts.next().is_none(),
        version => version != Some(NO_VERSION),
    };
    shape && ids && version
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_the_standard_allows_is_followed() {
        for good in [format!("00-{TRACE}-{SPAN}-01"), format!("00-{TRACE}-{SPAN}-00"), format!("00-{TRACE}-{SPAN}-ff")]
        {
            assert!(is_traceparent(&good), "{good}");
        }
        // Later versions may say more behind the part that is known.
        for later in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-comes")] {
            assert!(is_traceparent(&later), "{later}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        let (none_trace, none_span) = ("0".repeat(32), "0".repeat(16));
        let bad = [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{none_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{none_span}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-é{}-{SPAN}-01", &TRACE[2..]),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ];
        for bad in bad {
            assert!(!is_traceparent(&bad), "{bad}");
        }
    }
}
