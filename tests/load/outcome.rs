//! What became of one request.

use std::time::Duration;

use darkroom_proto::v1::Priority;
use tonic::Code;

use super::clock::Spent;

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With all that was asked for.
    Completed,
    /// Before it was let in. Maybe told when to come again.
    Refused(Code, Option<Duration>),
    /// After it was let in.
    Failed(Code),
    /// It was still under way when the run was over, and was cancelled.
    Cut,
    /// It came back with other latents than it should have.
    Wrong,
}

/// One request, as its client saw it. Times count from the scheduled arrival, so that a late generator or a server that
/// does not answer makes them longer, and nothing makes them fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whose it was.
    pub identity: usize,
    /// As it was sent.
    pub priority: Priority,
    /// Rows × latent pixels × steps.
    pub work: u64,
    /// When it was to be sent, from the start of the run.
    pub scheduled: Duration,
    /// How much later it was sent.
    pub late: Duration,
    /// Until the first event.
    pub first_event: Option<Duration>,
    /// Until its end.
    pub latency: Duration,
    /// How it ended.
    pub end: End,
    /// Events that came.
    pub events: u32,
    /// Of them, places in the queue.
    pub positions: u32,
    /// A place in the queue was higher than one before.
    pub position_grew: bool,
    /// What the worker's clock says that it took there.
    pub spent: Option<Spent>,
}

impl Outcome {
    /// When it ended, from the start of the run.
    #[must_use]
    pub fn ended(&self) -> Duration {
        self.scheduled + self.latency
    }

    /// Seconds beyond what the worker's clock counted.
    #[must_use]
    pub fn added(&self) -> Option<f64> {
        let spent = self.spent?;
        Some(self.latency.as_secs_f64() - f64::from(spent.queued) - f64::from(spent.computed))
    }
}
