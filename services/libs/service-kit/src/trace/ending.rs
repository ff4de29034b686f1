//! A span that says how it ended.

use tracing::Span;

/// The field that holds it; the span must have it.
const OUTCOME: &str = "darkroom.outcome";

/// Writes a span's outcome down, once. Work ends by being dropped, too: then it was cancelled.
#[derive(Debug)]
pub struct Ending {
    span: Span,
    told: bool,
}

impl Ending {
    /// Of a span with the field `darkroom.outcome`.
    pub fn of(span: &Span) -> Self {
        Self { span: span.clone(), told: false }
    }

    /// It has ended well.
    pub fn well(mut self, outcome: &str) {
        self.told = true;
        self.span.record(OUTCOME, outcome);
    }

    /// It has failed; with the kind of failure in a word.
    pub fn badly(mut self, outcome: &str, kind: &str) {
        self.told = true;
        self.span.record(OUTCOME, outcome);
        super::failed(&self.span, kind);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.told {
            self.span.record(OUTCOME, "cancelled");
        }
    }
}
