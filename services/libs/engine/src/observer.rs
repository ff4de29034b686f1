//! What the engine tells the one who counts. The engine knows no metrics library; a service maps these calls to its metrics.

use std::time::Duration;

use crate::slots::Used;

/// Why evaluations were computed for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WasteReason {
    /// The caller went away.
    Cancelled,
    /// The request's deadline passed.
    Deadline,
    /// The model failed.
    Failed,
}

impl WasteReason {
    /// Every reason, so that a metric can exist before it is first needed.
    pub const ALL: [Self; 3] = [Self::Cancelled, Self::Deadline, Self::Failed];

    /// The reason as a metric's label has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Failed => "failed",
        }
    }
}

/// Called on the model's thread (and where work is submitted): must return quickly and never wait.
pub trait Observer: Send + Sync {
    /// Work left the queue to be computed, after waiting for so long.
    fn started(&self, waited: Duration) {
        let _ = waited;
    }

    /// The model was called once for `pictures` requests and took so long.
    fn evaluated(&self, pictures: usize, took: Duration) {
        let _ = (pictures, took);
    }

    /// A request ended without a result after `steps` evaluations were computed for it.
    fn wasted(&self, reason: WasteReason, steps: usize) {
        let _ = (reason, steps);
    }

    /// So many requests wait now. Also called where a request enters the queue.
    fn waiting(&self, requests: usize) {
        let _ = requests;
    }

    /// So many requests are being computed now, which take so much together.
    fn running(&self, requests: usize, used: Used) {
        let _ = (requests, used);
    }
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
