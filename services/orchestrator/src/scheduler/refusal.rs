//! Why a request is not let in, and what its client can do about it.

use std::time::Duration;

use darkroom_service_kit::status;
use tonic::Status;

/// A request that is not let in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Full(Full),
    #[error(transparent)]
    Late(Late),
}

/// The queue holds all it may.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{bound}; try again in {:.1} s", retry_after.as_secs_f64())]
pub(crate) struct Full {
    pub(crate) bound: Bound,
    pub(crate) retry_after: Duration,
}

/// Which of its bounds it has reached.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(crate) enum Bound {
    #[error("{waiting} requests wait already, which is this server's limit")]
    Requests { waiting: usize },
    #[error(
        "{waiting} requests for this model wait already; of this server's {limit} places the rest is kept for other models"
    )]
    ModelRequests { waiting: usize, limit: usize },
    #[error(
        "{own} requests of this client wait already; of this server's {limit} places the rest is kept for other clients"
    )]
    OwnRequests { own: usize, limit: usize },
    #[error("work for {waiting:.1} s waits already, this server's limit is {limit:.1} s")]
    Work { waiting: f64, limit: f64 },
    #[error(
        "work of this client for {own:.1} s waits already; of this server's {limit:.1} s the rest is kept for other clients"
    )]
    OwnWork { own: f64, limit: f64 },
}

/// The deadline cannot be met.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the deadline is in {:.1} s and the request would be ready in {:.1} s: {:.1} s in the queue, {:.1} s at work",
    left.as_secs_f64(), self.earliest().as_secs_f64(), wait.as_secs_f64(), work.as_secs_f64()
)]
pub(crate) struct Late {
    pub(crate) left: Duration,
    pub(crate) wait: Duration,
    pub(crate) work: Duration,
}

impl Late {
    /// When it would be ready.
    pub(crate) fn earliest(&self) -> Duration {
        self.wait.saturating_add(self.work)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full(full) => status::exhausted(full.to_string(), full.retry_after),
            Refusal::Late(late) => {
                // With a shorter queue it could be met; without any queue it could not be.
                let shorter = (late.work <= late.left).then(|| late.earliest().saturating_sub(late.left));
                status::deadline_cannot_be_met(late.to_string(), late.earliest(), shorter)
            }
        }
    }
}
