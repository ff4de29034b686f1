//! The few ways in which work can be refused or can end without a result.

use std::time::Duration;

use thiserror::Error;

use crate::checkpoint::CheckpointError;

/// What a model reports when a call fails. The engine only passes its text on.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// Why work was not taken. Nothing was computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The queue has no free place.
    #[error("all {limit} places in the queue are taken; try again later")]
    Full {
        /// Places in the queue.
        limit: usize,
        /// When the next place is expected to become free, as measured; `None` before anything was measured.
        retry_after: Option<Duration>,
    },
    /// The stage is draining, or its model's thread is gone.
    #[error("this stage is shutting down and takes no new work; try another one")]
    Closed,
}

/// Why work that was taken ended without a result.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RunError {
    /// The request's own deadline passed. The work stopped at the next evaluation at the latest.
    #[error("the deadline passed before the work was finished")]
    DeadlineExceeded,
    /// The model answered with an error, or with something else than was asked of it.
    #[error("the model failed: {0}")]
    Model(String),
    /// The model's code panicked. The thread that owns it lives on.
    #[error("the model panicked: {0}")]
    Panicked(String),
    /// The model gave a NaN or an infinity. Low precision overflows first: another precision may help.
    #[error("the model gave a value that is not finite in evaluation {evaluation}; try a higher precision")]
    NotFinite {
        /// The evaluation of the request's plan, from 0.
        evaluation: usize,
    },
    /// The request's sampler plan contradicts itself: a mistake of the program, not of the request.
    #[error("the sampler's plan is wrong: {0}")]
    Plan(&'static str),
    /// The checkpoint that the request was to go on from is not one of its own.
    #[error("the checkpoint does not fit: {field}: {0}", field = .0.field())]
    Checkpoint(#[from] CheckpointError),
    /// The model's thread ended before the work did.
    #[error("the model's thread stopped before the work was finished")]
    Stopped,
}

impl From<ModelError> for RunError {
    fn from(error: ModelError) -> Self {
        Self::Model(chain(error.as_ref()))
    }
}

/// The text of a caught panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

/// Calls into the model's code so that neither its error nor its panic ends the thread.
///
/// A model that panicked is used again: models keep no state between calls but caches that are replaced as a whole.
pub(crate) fn guarded<T, E: Into<RunError>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, RunError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Into::into),
        Err(payload) => Err(RunError::Panicked(panic_text(payload.as_ref()))),
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_call_turns_panics_and_errors_into_words() {
        assert_eq!(guarded(|| Ok::<_, ModelError>(3)), Ok(3));
        let failed: Result<(), _> = guarded(|| Err(ModelError::from("no weights")));
        assert_eq!(failed, Err(RunError::Model("no weights".to_owned())));
        let panicked: Result<(), _> = guarded(|| -> Result<(), RunError> { panic!("index {}", 7) });
        assert_eq!(panicked, Err(RunError::Panicked("index 7".to_owned())));
    }
}
