//! What can go wrong between a caller and the server, with everything that the server said about it.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is not one that this client can use.
    #[error("{address:?} is not a server's address: {reason}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key cannot be sent. It is not repeated here.
    #[error("api_key: {0}")]
    ApiKey(&'static str),
    /// The certificates or the key for TLS cannot be used.
    #[error("tls: {reason}")]
    Tls {
        /// The innermost cause.
        reason: String,
        /// The transport's own error.
        source: tonic::transport::Error,
    },
    /// The text names no span that a trace could go on from.
    #[error("traceparent: {text:?} is not what W3C Trace Context allows, such as 00-TRACE_ID-SPAN_ID-01")]
    TraceParent {
        /// What was given.
        text: String,
    },
    /// The text cannot be sent along with a trace.
    #[error("tracestate: it must be at most {most} visible ASCII characters and spaces")]
    TraceState {
        /// Characters that are allowed.
        most: usize,
    },
    /// Nobody answered at the address.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The address that was tried.
        address: String,
        /// The innermost cause, such as "connection refused".
        reason: String,
        /// The transport's own error.
        source: tonic::transport::Error,
    },
    /// The server answered with an error, or the connection broke during the call.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The server answered with something that its contract does not allow.
    #[error("the server broke its contract: {0}")]
    Contract(String),
}

/// A gRPC status with its `google.rpc` details.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The kind of error.
    pub code: Code,
    /// One line for people.
    pub message: String,
    /// The request's fields that were refused (`google.rpc.BadRequest`).
    pub field_violations: Vec<FieldViolation>,
    /// How long to wait before another try (`google.rpc.RetryInfo`).
    pub retry_after: Option<Duration>,
}

/// One refused field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the contract, such as `width`.
    pub field: String,
    /// Its value and what is allowed.
    pub description: String,
}

impl Error {
    /// The gRPC code: what the server said, or the code that fits an error found on this side.
    pub fn code(&self) -> Code {
        match self {
            Self::Address { .. }
            | Self::ApiKey(_)
            | Self::Tls { .. }
            | Self::TraceParent { .. }
            | Self::TraceState { .. } => Code::InvalidArgument,
            Self::Connect { .. } => Code::Unavailable,
            Self::Refused(refusal) => refusal.code,
            Self::Contract(_) => Code::Internal,
        }
    }

    /// The request's fields that the server refused; empty for other errors.
    pub fn field_violations(&self) -> &[FieldViolation] {
        match self {
            Self::Refused(refusal) => &refusal.field_violations,
            _ => &[],
        }
    }

    /// How long the server asks to wait before another try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    pub(crate) fn connect(address: &str, source: tonic::transport::Error) -> Self {
        Self::Connect { address: address.to_owned(), reason: innermost(&source), source }
    }

    pub(crate) fn tls(source: tonic::transport::Error) -> Self {
        Self::Tls { reason: innermost(&source), source }
    }

    pub(crate) fn deadline_exceeded(message: String) -> Self {
        let code = Code::DeadlineExceeded;
        Self::Refused(Box::new(Refusal { code, message, field_violations: Vec::new(), retry_after: None }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let field_violations = details.bad_request().map_or_else(Vec::new, |bad_request| {
            let violations = bad_request.field_violations.iter();
            violations.map(|v| FieldViolation { field: v.field.clone(), description: v.description.clone() }).collect()
        });
        // An error of the transport says little by itself ("transport error"): its cause is the message.
        let message = match status.source() {
            Some(source) => format!("the connection to the server broke: {}", innermost(source)),
            None if status.message().is_empty() => status.code().description().to_lowercase(),
            None => status.message().to_owned(),
        };
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        Self::Refused(Box::new(Refusal { code: status.code(), message, field_violations, retry_after }))
    }
}

/// The last error of a chain of causes: the one that says what happened.
fn innermost(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_keeps_its_details() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("width", "is 500; allowed are multiples of 8");
        details.set_retry_info(Some(Duration::from_secs(3)));
        let error = Error::from(Status::with_error_details(Code::InvalidArgument, "width is 500", details));
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.to_string(), "width is 500");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        let violation = &error.field_violations()[0];
        assert_eq!((violation.field.as_str(), &violation.description[..6]), ("width", "is 500"));
    }

    #[test]
    fn a_status_without_words_is_described_by_its_code() {
        let error = Error::from(Status::new(Code::Unimplemented, ""));
        assert_eq!(error.to_string(), "operation is not implemented or not supported");
        assert!(error.field_violations().is_empty());
        assert_eq!(error.retry_after(), None);
    }
}
