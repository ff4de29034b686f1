//! The few kinds of refusal, each with the `google.rpc` details that a client can act on.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of Darkroom's `google.rpc.ErrorInfo`.
const DOMAIN: &str = "darkroom";

/// `INVALID_ARGUMENT`: the request is wrong. `message` says what was found and what is allowed (google.rpc.BadRequest).
pub fn invalid_argument(field: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let details = ErrorDetails::with_bad_request_violation(field, message.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// The first field that a refusal names, and what it says of it.
pub fn violation(status: &Status) -> Option<(String, String)> {
    let violation = status.get_details_bad_request()?.field_violations.into_iter().next()?;
    Some((violation.field, violation.description))
}

/// `RESOURCE_EXHAUSTED`: a full queue. The client may try again after `retry_after` (google.rpc.RetryInfo).
pub fn exhausted(message: impl Into<String>, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// `RESOURCE_EXHAUSTED`: `subject`, a client, has had what it may have (google.rpc.QuotaFailure, and RetryInfo where trying again helps).
pub fn over_quota(subject: &str, message: impl Into<String>, retry_after: Option<Duration>) -> Status {
    let message = message.into();
    let mut details = ErrorDetails::with_quota_failure_violation(subject, message.clone());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// When the client of a refused call may try again, if the refusal says so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// `UNAVAILABLE`: no worker of `stage` can take the work now (google.rpc.ErrorInfo with the stage in its metadata).
pub fn unavailable(stage: &str, message: impl Into<String>) -> Status {
    let metadata = [("stage".to_owned(), stage.to_owned())];
    let details = ErrorDetails::with_error_info("STAGE_UNAVAILABLE", DOMAIN, metadata);
    Status::with_error_details(Code::Unavailable, format!("{stage}: {}", message.into()), details)
}

/// `FAILED_PRECONDITION`: `subject`, a model or a file, does not fit (google.rpc.PreconditionFailure).
pub fn failed_precondition(subject: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let details = ErrorDetails::with_precondition_failure_violation("MODEL", subject, message.clone());
    Status::with_error_details(Code::FailedPrecondition, format!("{subject}: {message}"), details)
}

/// `DEADLINE_EXCEEDED`: the call's own deadline passed.
pub fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline passed before the work was done")
}

/// `DEADLINE_EXCEEDED`: the deadline cannot be met, and the work was not begun (google.rpc.ErrorInfo with the seconds after which it
/// would be done). `shorter`: by how much the queue must shrink for it to be met; `None` when even an empty one would not do.
pub fn deadline_cannot_be_met(message: impl Into<String>, earliest: Duration, shorter: Option<Duration>) -> Status {
    let metadata = [("earliest_seconds".to_owned(), format!("{:.3}", earliest.as_secs_f64()))];
    let mut details = ErrorDetails::with_error_info("DEADLINE_CANNOT_BE_MET", DOMAIN, metadata);
    if let Some(shorter) = shorter {
        details.set_retry_info(Some(shorter));
    }
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}

/// Characters of a client's own text that a refusal shows.
const SHOWN: usize = 80;

/// A client's own text as a refusal shows it: quoted, and cut short. A status travels in headers, of which clients take a few
/// kilobytes: with more they would see a broken stream in place of the refusal.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// The code as it is written in specifications and in the `code` label: "INVALID_ARGUMENT".
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_shown_and_never_floods_the_headers() {
        assert_eq!(shown("k_lms"), "\"k_lms\"");
        assert_eq!(shown(&"é".repeat(80)), format!("\"{}\"", "é".repeat(80)));
        assert_eq!(shown(&"é".repeat(100_000)), format!("\"{}\"…", "é".repeat(80)));
        // The longest that a character can become.
        assert!(shown(&"\u{e0001}".repeat(100_000)).len() < 1000);
    }

    #[test]
    fn details_reach_the_client() {
        let status = invalid_argument("width", "500 is not a multiple of 8");
        assert_eq!(status.message(), "width: 500 is not a multiple of 8");
        assert_eq!(violation(&status), Some(("width".into(), "500 is not a multiple of 8".into())));
        assert_eq!(violation(&Status::invalid_argument("by a proxy")), None);

        let delay = Duration::from_millis(1500);
        assert_eq!(retry_after(&exhausted("the queue is full", delay)), Some(delay));
        assert_eq!(retry_after(&Status::resource_exhausted("by a proxy")), None);

        let info = unavailable("vae", "no worker is ready").get_details_error_info().unwrap();
        assert_eq!(info.metadata["stage"], "vae");

        let failure = failed_precondition("vae", "4 channels").get_details_precondition_failure().unwrap();
        assert_eq!(failure.violations[0].subject, "vae");
    }
}
