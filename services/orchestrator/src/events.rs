//! A request's progress as the messages of its stream: the only place that makes them.

use bytes::Bytes;
use darkroom_proto::v1::{self, GenerateEvent, Tensor, generate_event::Event};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::job::Job;
use crate::queue::Standing;

/// Events that may wait for a slow client. Beyond it, steps are left out and everything else waits.
const BUFFER: usize = 64;

/// A request field's caveat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) field: &'static str,
    pub(crate) message: String,
}

/// A finished picture.
pub(crate) struct Finished {
    pub(crate) index: u32,
    pub(crate) content: Content,
    pub(crate) parameters: String,
}

/// What was asked for: a file, or latents.
pub(crate) enum Content {
    File { data: Bytes, media_type: &'static str },
    Latents(Tensor),
}

/// A preview as PNG.
pub(crate) struct Preview {
    pub(crate) data: Bytes,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Seconds of each part of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) queue: f64,
    pub(crate) text_encoder: f64,
    /// From the first denoise call to the end of the last.
    pub(crate) denoiser: f64,
    /// All decode calls together.
    pub(crate) vae: f64,
    pub(crate) total: f64,
}

/// The client has gone; whoever learns it stops.
#[derive(Debug)]
pub(crate) struct Gone;

/// The sending end of a request's stream.
#[derive(Clone)]
pub(crate) struct Events {
    request_id: String,
    sender: mpsc::Sender<Result<GenerateEvent, Status>>,
}

impl Events {
    /// Both ends of a stream.
    pub(crate) fn channel(request_id: &str) -> (Self, ReceiverStream<Result<GenerateEvent, Status>>) {
        let (sender, receiver) = mpsc::channel(BUFFER);
        (Self { request_id: request_id.to_owned(), sender }, ReceiverStream::new(receiver))
    }

    pub(crate) async fn queued(&self, standing: Standing) -> Result<(), Gone> {
        let estimated_seconds = standing.estimated.map_or(0.0, |estimated| estimated.as_secs_f64());
        let position = u32::try_from(standing.position).unwrap_or(u32::MAX);
        self.send(Event::Queued(v1::Queued { position, estimated_seconds })).await
    }

    pub(crate) async fn started(&self, job: &Job) -> Result<(), Gone> {
        let started = v1::Started {
            model: job.model.clone(),
            width: job.width,
            height: job.height,
            num_images: job.num_images,
            seed: job.seed,
            sampler: job.sampler.clone(),
            num_inference_steps: job.num_inference_steps,
            guidance_scale: job.guidance_scale,
            eta: job.eta,
            clip_skip: job.clip_skip,
        };
        self.send(Event::Started(started)).await
    }

    /// Never waits: a client that reads slowly misses steps, and holds up no denoiser.
    pub(crate) fn step(&self, image_index: u32, step: u32, of: u32, preview: Option<Preview>) {
        let preview = preview.map(|preview| v1::Preview {
            data: preview.data,
            media_type: "image/png".into(),
            width: preview.width,
            height: preview.height,
        });
        let event = Event::Step(v1::Step { image_index, step, of, preview });
        _ = self.sender.try_send(Ok(self.event(event)));
    }

    pub(crate) async fn image(&self, job: &Job, finished: Finished) -> Result<(), Gone> {
        let (data, media_type, latents) = match finished.content {
            Content::File { data, media_type } => (data, media_type, None),
            Content::Latents(latents) => (Bytes::new(), "", Some(latents)),
        };
        let image = v1::Image {
            image_index: finished.index,
            seed: job.image_seed(finished.index),
            data,
            media_type: media_type.into(),
            width: job.width,
            height: job.height,
            safety: v1::SafetyVerdict::NotChecked.into(),
            parameters: finished.parameters,
            latents,
        };
        self.send(Event::Image(image)).await
    }

    pub(crate) async fn image_failed(&self, job: &Job, index: u32, status: &Status) -> Result<(), Gone> {
        let failed = v1::ImageFailed {
            image_index: index,
            seed: job.image_seed(index),
            code: status.code().into(),
            message: status.message().to_owned(),
        };
        self.send(Event::ImageFailed(failed)).await
    }

    pub(crate) async fn completed(
        &self,
        job: &Job,
        failed: u32,
        times: Times,
        warnings: Vec<Warning>,
    ) -> Result<(), Gone> {
        let warnings = warnings.into_iter().map(|warning| v1::Warning {
            field: warning.field.into(),
            message: format!("{}: {}", warning.field, warning.message),
        });
        let completed = v1::Completed {
            seconds: Some(v1::StageSeconds {
                queue: times.queue,
                text_encoder: times.text_encoder,
                denoiser: times.denoiser,
                vae: times.vae,
                total: times.total,
            }),
            warnings: warnings.collect(),
            images: job.num_images - failed,
            failed,
        };
        self.send(Event::Completed(completed)).await
    }

    /// The stream's end, when it is not `completed`.
    pub(crate) async fn end(&self, status: Status) {
        _ = self.sender.send(Err(status)).await;
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.sender.send(Ok(self.event(event))).await.map_err(|_| Gone)
    }

    fn event(&self, event: Event) -> GenerateEvent {
        GenerateEvent { request_id: self.request_id.clone(), event: Some(event) }
    }
}
