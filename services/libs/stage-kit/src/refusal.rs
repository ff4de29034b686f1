//! From what the engine, the tensor view and a range refuse to a gRPC status.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use darkroom_engine::{CallError, CheckpointError, RunError, SubmitError};
use darkroom_proto::tensor::TensorError;
use darkroom_service_kit::status;
use tonic::Status;

/// The delay that a full queue asks for while nothing has been measured yet.
const UNMEASURED_RETRY: Duration = Duration::from_secs(1);

/// `INVALID_ARGUMENT` for a tensor that does not fit.
pub fn tensor(error: &TensorError) -> Status {
    let (field, text) = (error.field(), error.to_string());
    // The error's text names the field, and so does the status: once is enough.
    let message = text.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
    status::invalid_argument(field, message)
}

/// Passes a value that is within `range`.
///
/// # Errors
/// `INVALID_ARGUMENT` with the value and the range. A NaN is in no range.
pub fn within<T: PartialOrd + Display + Copy>(field: &str, value: T, range: RangeInclusive<T>) -> Result<T, Status> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(status::invalid_argument(field, format!("{value} is not in {} to {}", range.start(), range.end())))
}

/// Why `stage` did not take the work.
pub fn refused(stage: &str, error: &SubmitError) -> Status {
    match error {
        SubmitError::Full { retry_after, .. } => {
            status::exhausted(format!("{stage}: {error}"), retry_after.unwrap_or(UNMEASURED_RETRY))
        }
        SubmitError::Closed => status::unavailable(stage, error.to_string()),
    }
}

/// A checkpoint that a request cannot go on from: `FAILED_PRECONDITION` for plans of another version, which another worker may have, and
/// `INVALID_ARGUMENT` for what does not fit the request.
pub fn checkpoint(error: &CheckpointError) -> Status {
    let field = format!("resume_from.{}", error.field());
    match error {
        CheckpointError::PlanVersion { .. } => status::failed_precondition(&field, error.to_string()),
        _ => status::invalid_argument(&field, error.to_string()),
    }
}

/// Why `stage` did not finish the work.
pub fn failed(stage: &str, error: &RunError) -> Status {
    match error {
        RunError::DeadlineExceeded => status::deadline_exceeded(),
        RunError::Stopped => status::unavailable(stage, error.to_string()),
        RunError::Checkpoint(error) => checkpoint(error),
        RunError::Model(_) | RunError::Panicked(_) | RunError::NotFinite { .. } | RunError::Plan(_) => {
            Status::internal(format!("{stage}: {error}"))
        }
    }
}

/// Why a call to `stage` gave no answer.
pub fn call(stage: &str, error: &CallError) -> Status {
    match error {
        CallError::Refused(error) => refused(stage, error),
        CallError::Failed(error) => failed(stage, error),
    }
}

#[cfg(test)]
mod tests {
    use darkroom_proto::tensor::TensorView;
    use darkroom_proto::v1;
    use tonic::Code;

    use super::*;

    #[test]
    fn a_range_names_field_value_and_bounds() {
        assert_eq!(within("steps", 7, 1..=1000).unwrap(), 7);
        let status = within("guidance_scale", f64::NAN, 0.0..=50.0).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "guidance_scale: NaN is not in 0 to 50"));
    }

    #[test]
    fn a_tensor_error_names_its_field_once() {
        let error = TensorView::new(&v1::Tensor::from_f32(&[3], &[0.0]), "latents").unwrap_err();
        let status = tensor(&error);
        assert_eq!(status.message().matches("latents").count(), 1, "{}", status.message());
    }

    #[test]
    fn every_refusal_has_its_code() {
        let full = SubmitError::Full { limit: 8, retry_after: None };
        let codes = [
            refused("vae", &full),
            refused("vae", &SubmitError::Closed),
            failed("vae", &RunError::DeadlineExceeded),
            failed("vae", &RunError::Stopped),
            failed("vae", &RunError::Panicked("index".into())),
        ]
        .map(|status| status.code());
        let expected =
            [Code::ResourceExhausted, Code::Unavailable, Code::DeadlineExceeded, Code::Unavailable, Code::Internal];
        assert_eq!(codes, expected);
    }
}
