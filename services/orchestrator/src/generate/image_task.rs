//! The way of one picture: denoise in its slot, decode, write the file, send it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::{DecodeRequest, SafetyVerdict, Tensor};
use darkroom_service_kit::status::code_name;
use darkroom_service_kit::trace::Ending;
use tonic::Status;
use tracing::{Instrument, Span};

use crate::admission::Slot;
use crate::events::{Content, Finished, Log, Preview};
use crate::job::{Job, Output};
use crate::model::Model;
use crate::parameters::parameters;
use crate::picture::{self, PictureError, Rgb};
use crate::stages::Stage;
use crate::stages::calls::{Calls, Decoded};
use crate::trace;

use super::init::EncodedInit;

/// What the pictures of a request share.
pub(super) struct ImageTask {
    pub(super) calls: Arc<Calls>,
    pub(super) job: Arc<Job>,
    pub(super) model: Arc<Model>,
    pub(super) deadline: Option<Instant>,
    pub(super) log: Arc<Log>,
    /// f32 [max_tokens, hidden_size].
    pub(super) prompt: Tensor,
    pub(super) negative: Option<Tensor>,
    /// What they begin from.
    pub(super) init: Option<EncodedInit>,
}

/// When a picture was denoised, and how long its decoding took.
pub(super) struct ImageTimes {
    pub(super) denoised: Instant,
    pub(super) vae: Duration,
}

impl From<PictureError> for Status {
    fn from(error: PictureError) -> Self {
        Self::internal(error.to_string())
    }
}

impl ImageTask {
    /// Makes picture `index` in `slot`, which is free again as soon as the latents are there and can be decoded.
    pub(super) async fn run(self: Arc<Self>, index: u32, slot: Slot) -> (u32, Result<ImageTimes, Status>) {
        let ending = Ending::of(&Span::current());
        let made = self.make(index, slot).await;
        match &made {
            Ok(_) => ending.well("made"),
            Err(status) => ending.badly("failed", code_name(status.code())),
        }
        (index, made)
    }

    async fn make(&self, index: u32, slot: Slot) -> Result<ImageTimes, Status> {
        let (latents, slot) = self.latents(index, slot).await?;
        let denoised = Instant::now();
        let job = &self.job;
        let parameters = parameters(job, index);
        let (content, safety, vae) = match job.output {
            Output::Latents => {
                drop(slot);
                (Content::Latents(latents), SafetyVerdict::NotChecked.into(), Duration::ZERO)
            }
            Output::Picture(format) => {
                let Decoded { picture, safety } = self.decode(latents, slot).instrument(trace::decode()).await?;
                let decoded = Instant::now();
                let original = self.init.as_ref().and_then(EncodedInit::original);
                // What was blacked out stays black.
                let flagged = safety == i32::from(SafetyVerdict::Flagged);
                let original = original.filter(|_| !(flagged && picture.data.iter().all(|byte| *byte == 0)));
                let file = picture::encode(picture, original, format, parameters.clone());
                let data = file.instrument(trace::picture_file(format)).await?;
                self.calls.metrics.picture_seconds(decoded.elapsed());
                (Content::File { data, media_type: format.media_type() }, safety, decoded - denoised)
            }
        };
        self.log.image(job, Finished { index, content, safety, parameters });
        self.calls.metrics.images_total.increment(1);
        Ok(ImageTimes { denoised, vae })
    }

    /// Has a VAE make pixels of the latents; the slot is free as soon as one has room for them.
    async fn decode(&self, latents: Tensor, mut slot: Slot) -> Result<Decoded, Status> {
        let room = match self.calls.room_now(Stage::Vae) {
            Some(room) => room,
            None => {
                slot.hold();
                self.calls.room(Stage::Vae, self.deadline).await?
            }
        };
        drop(slot);
        let request = DecodeRequest { latents: Some(latents), intermediate: false };
        self.calls.decode(request, self.job.final_size(), &self.model, room, self.deadline).await
    }
}

pub(super) async fn encode_preview(rgb: Rgb) -> Result<Preview, PictureError> {
    let (width, height) = (rgb.width, rgb.height);
    Ok(Preview { data: picture::preview(rgb).await?, width, height })
}
