//! What a failed call says of the worker and of the request: which failures are worth a try on another worker.

use std::error::Error as _;
use std::time::{Duration, Instant};

use darkroom_service_kit::status;
use tonic::{Code, Status};

use super::Worker;
use super::watch::reason;

/// A stage answers a deadline itself, a little early; this much later we stop listening.
pub(super) const LISTEN_LONGER: Duration = Duration::from_millis(500);

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process or the connection is gone.
    Died,
    /// It is there, and did not answer in time.
    Hung,
    /// It takes no more work now.
    Busy,
    /// It cannot go on from the checkpoint that it was given.
    PlanVersion,
    /// The request's own, or one that any worker would have: never tried again.
    Final,
}

impl Fault {
    /// As the `reason` label names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Died => "died",
            Self::Hung => "hung",
            Self::Busy => "busy",
            Self::PlanVersion => "plan_version",
            Self::Final => "final",
        }
    }
}

/// A call that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// For the client, when nobody else can help.
    pub(crate) status: Status,
}

impl Failure {
    pub(super) fn last(status: Status) -> Self {
        Self { fault: Fault::Final, status }
    }

    /// The answer when the tries are used up.
    pub(crate) fn given_up(self, tries: u32, why: &str) -> Status {
        if tries <= 1 {
            return self.status;
        }
        let message = format!("{}; given up after {tries} tries: {why}", self.status.message());
        Status::with_details(self.status.code(), message, self.status.details().to_vec().into())
    }
}

/// The caller's deadline, if that is what has come; else the worker is at fault.
pub(super) fn too_late(worker: &Worker, own: Duration, deadline: Option<Instant>) -> Failure {
    if passed(deadline) {
        return Failure::last(status::deadline_exceeded());
    }
    hung(worker, &format!("did not answer within {} s", seconds(own)))
}

/// The worker is there and does not do its work.
pub(super) fn hung(worker: &Worker, why: &str) -> Failure {
    worker.suspect(why);
    let status = status::unavailable(worker.stage.name(), format!("{} {why}", worker.address));
    Failure { fault: Fault::Hung, status }
}

/// Stages answer a deadline a little early.
pub(super) fn passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now() + LISTEN_LONGER)
}

/// A stage says DEADLINE_EXCEEDED; tonic's own timer, here or there, says CANCELLED.
pub(super) fn timed_out(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}

/// A stage's own status in terms of the request: where it happened is added, its code stays. `resumed`: the call carried a
/// checkpoint.
pub(super) fn translate(worker: &Worker, status: Status, deadline: Option<Instant>, resumed: bool) -> Failure {
    if timed_out(&status) && passed(deadline) {
        return Failure::last(status::deadline_exceeded());
    }
    // A status that was sent has no source; one that tonic made of a broken connection has, whatever its code.
    let broken = status.source().is_some() || status.code() == Code::Cancelled;
    if broken || status.code() == Code::Unavailable {
        let why = reason(&status);
        worker.suspect(&why);
        let status = status::unavailable(worker.stage.name(), format!("{}: {why}", worker.address));
        return Failure { fault: Fault::Died, status };
    }
    let fault = match status.code() {
        Code::ResourceExhausted => Fault::Busy,
        Code::FailedPrecondition if resumed => Fault::PlanVersion,
        _ => Fault::Final,
    };
    let message = format!("{} at {}: {}", worker.stage.name(), worker.address, status.message());
    let status = Status::with_details(status.code(), message, status.details().to_vec().into());
    Failure { fault, status }
}

/// The worker's answer is not what the protocol says.
pub(super) fn broken(worker: &Worker, message: &str) -> Failure {
    Failure::last(Status::internal(format!(
        "{} at {} answered wrongly: {message}",
        worker.stage.name(),
        worker.address
    )))
}

/// Whole seconds without a fraction, others with what they need.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds.fract() == 0.0 { format!("{seconds:.0}") } else { format!("{seconds:.1}") }
}

#[cfg(test)]
mod tests {
    use darkroom_service_kit::channel;

    use super::*;
    use crate::stages::Stage;

    #[tokio::test]
    async fn only_the_workers_own_failures_are_worth_another_try() {
        let worker = Worker::new(Stage::Vae, "v:1".into(), channel::lazy("127.0.0.1:1").unwrap());
        let fault = |code, resumed| translate(&worker, Status::new(code, "x"), None, resumed).fault;
        for own in
            [Code::InvalidArgument, Code::OutOfRange, Code::Internal, Code::DeadlineExceeded, Code::Unimplemented]
        {
            assert_eq!(fault(own, true), Fault::Final, "{own:?}");
        }
        assert_eq!(fault(Code::Unavailable, false), Fault::Died);
        assert_eq!(fault(Code::Cancelled, false), Fault::Died);
        assert_eq!(fault(Code::ResourceExhausted, false), Fault::Busy);
        assert_eq!(fault(Code::FailedPrecondition, true), Fault::PlanVersion);
        assert_eq!(fault(Code::FailedPrecondition, false), Fault::Final);
        // A broken connection, as tonic tells it.
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(translate(&worker, broken, None, false).fault, Fault::Died);
        let soon = Some(Instant::now());
        assert_eq!(translate(&worker, Status::cancelled("x"), soon, false).status.code(), Code::DeadlineExceeded);
    }

    #[test]
    fn the_last_error_says_how_often_it_was_tried() {
        let failure = Failure { fault: Fault::Died, status: status::unavailable("vae", "v:1: reset") };
        assert_eq!(failure.clone().given_up(1, "x").message(), "vae: v:1: reset");
        let status = failure.given_up(3, "max_tries are used up");
        assert_eq!(status.message(), "vae: v:1: reset; given up after 3 tries: max_tries are used up");
        assert_eq!(status.code(), Code::Unavailable);
    }
}
