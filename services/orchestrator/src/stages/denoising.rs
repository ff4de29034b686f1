//! One picture's denoise stream, from the worker's first word to the final latents.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::{DenoiseEvent, Dtype, Tensor};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::calls::{broken, checked, limit, too_late, translate};
use super::{Lease, Stage};
use crate::metrics::OrchestratorMetrics;
use crate::picture::Rgb;

/// What a denoiser tells.
pub(crate) enum Progress {
    /// A step is done; with what the picture looks like so far, when asked for.
    Step { step: u32, of: u32, preview: Option<Rgb> },
    /// The work is done.
    Finished { latents: Tensor, seconds: f64 },
}

/// Dropping it stops the worker before its next evaluation.
pub(crate) struct Denoising {
    pub(super) stream: Streaming<DenoiseEvent>,
    pub(super) lease: Lease,
    /// Latent height and width.
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
    pub(super) stall: Duration,
    pub(super) deadline: Option<Instant>,
    pub(super) metrics: Arc<OrchestratorMetrics>,
}

impl Denoising {
    /// The next event. Nothing comes after `Finished`.
    ///
    /// # Errors
    /// The worker's status; UNAVAILABLE when it was silent for the stall limit or ended the stream without latents.
    pub(crate) async fn next(&mut self) -> Result<Progress, Status> {
        loop {
            let Ok(message) = timeout(limit(self.stall, self.deadline), self.stream.message()).await else {
                return Err(too_late(self.lease.worker(), self.stall, self.deadline));
            };
            let event = message.map_err(|status| translate(self.lease.worker(), status, self.deadline))?;
            match event.map(|event| event.event) {
                // Nothing to tell, or an event of a later version.
                Some(Some(Event::Accepted(_) | Event::Checkpoint(_) | Event::Draining(_)) | None) => {}
                Some(Some(Event::Step(step))) => {
                    let preview = step.preview.map(|tensor| self.preview(tensor)).transpose()?;
                    return Ok(Progress::Step { step: step.step, of: step.of, preview });
                }
                Some(Some(Event::Finished(finished))) => {
                    let [height, width] = self.size;
                    self.check(finished.latents.as_ref(), "latents", Dtype::F32, &[self.channels, height, width])?;
                    let latents = finished.latents.unwrap_or_default();
                    return Ok(Progress::Finished { latents, seconds: finished.seconds });
                }
                None => return Err(broken(self.lease.worker(), "the stream ended without latents")),
            }
        }
    }

    fn preview(&self, tensor: Tensor) -> Result<Rgb, Status> {
        let [height, width] = self.size;
        self.check(Some(&tensor), "preview", Dtype::U8, &[height, width, 3])?;
        Ok(Rgb { width: width as u32, height: height as u32, data: tensor.data })
    }

    fn check(&self, tensor: Option<&Tensor>, field: &'static str, dtype: Dtype, shape: &[usize]) -> Result<(), Status> {
        let bytes = checked(self.lease.worker(), tensor, field, dtype, shape)?;
        self.metrics.received(Stage::Denoiser, bytes);
        Ok(())
    }
}
