//! What a request costs, in the one unit that all estimates share: latent pixels × evaluations.

use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::job::Priority;

/// What a request asks of the denoisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) images: u32,
    /// Of the UNet, for each picture.
    pub(crate) evaluations: u32,
    /// Latent pixels of one evaluation of one picture: rows (two with guidance) × latent height × latent width.
    pub(crate) pixels: u64,
    pub(crate) priority: Priority,
}

impl Work {
    /// Of one picture.
    pub(crate) fn picture(&self) -> u64 {
        u64::from(self.evaluations).saturating_mul(self.pixels)
    }

    /// Of all pictures.
    pub(crate) fn total(&self) -> u64 {
        self.picture().saturating_mul(self.images.into())
    }
}

/// A request that wants to be scheduled.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) client: Client,
    pub(crate) work: Work,
    pub(crate) deadline: Option<Instant>,
    /// Time that it needs besides denoising: text, decoding, files.
    pub(crate) besides: Duration,
    /// Time that it has waited already, while there was no worker.
    pub(crate) waited: Duration,
}

/// Seconds as a duration: as long as there are, where there are too many.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
