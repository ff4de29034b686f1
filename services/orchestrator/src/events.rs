//! A request's progress as the messages of its stream: the only place that makes them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use darkroom_proto::v1::{self, GenerateEvent, Tensor, generate_event::Event};
use darkroom_service_kit::trace::SpanLink;
use tokio_stream::Stream;
use tonic::Status;

use crate::job::Job;
use crate::journal::{Entry, Item, Journal};
use crate::results::Shelf;
use crate::scheduler::Standing;

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
    /// A `SafetyVerdict`.
    pub(crate) safety: i32,
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

/// What a request tells, for as many readers as there are. Writing never waits for one.
pub(crate) struct Log {
    request_id: Box<str>,
    /// The request's span, for those who join.
    span: OnceLock<SpanLink>,
    told: Mutex<Told>,
}

struct Told {
    journal: Journal,
    shelf: Shelf,
    /// Readers who have read everything, by their numbers, and how to wake them.
    waiting: Vec<(u64, Waker)>,
    next_reader: u64,
}

impl Log {
    /// Its pictures take their bytes from `shelf`.
    pub(crate) fn new(request_id: &str, shelf: Shelf) -> Self {
        let told = Told { journal: Journal::default(), shelf, waiting: Vec::new(), next_reader: 0 };
        Self { request_id: request_id.into(), span: OnceLock::new(), told: Mutex::new(told) }
    }

    /// Where the request's span is; nothing where nothing is traced.
    pub(crate) fn set_span(&self, span: Option<SpanLink>) {
        _ = span.map(|span| self.span.set(span));
    }

    pub(crate) fn span(&self) -> Option<&SpanLink> {
        self.span.get()
    }

    pub(crate) fn queued(&self, standing: Standing) {
        let estimated_seconds = standing.estimated.map_or(0.0, |estimated| estimated.as_secs_f64());
        let position = u32::try_from(standing.position).unwrap_or(u32::MAX);
        self.write(Event::Queued(v1::Queued { position, estimated_seconds }));
    }

    pub(crate) fn started(&self, job: &Job) {
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
            strength: job.init.map(|init| init.strength),
            sigma_spacing: job.sigma_spacing.clone(),
            rng: job.rng.into(),
            variation: job.variation,
            hires: job.hires.map(|hires| v1::Hires {
                width: hires.width,
                height: hires.height,
                strength: Some(hires.strength),
            }),
            prompt_syntax: job.prompt_syntax.into(),
            loras: job.lora_messages(),
        };
        self.write(Event::Started(started));
    }

    pub(crate) fn step(&self, image_index: u32, step: u32, of: u32, preview: Option<Preview>) {
        let preview = preview.map(|preview| v1::Preview {
            data: preview.data,
            media_type: "image/png".into(),
            width: preview.width,
            height: preview.height,
        });
        self.write(Event::Step(v1::Step { image_index, step, of, preview }));
    }

    pub(crate) fn image(&self, job: &Job, finished: Finished) {
        let (data, media_type, latents) = match finished.content {
            Content::File { data, media_type } => (data, media_type, None),
            Content::Latents(latents) => (Bytes::new(), "", Some(latents)),
        };
        let [width, height] = job.final_size();
        let bytes = data.len() + latents.as_ref().map_or(0, |latents| latents.data.len());
        let image = v1::Image {
            image_index: finished.index,
            seed: job.image_seed(finished.index),
            data,
            media_type: media_type.into(),
            width,
            height,
            safety: finished.safety,
            parameters: finished.parameters,
            latents,
        };
        self.told().shelf.put(bytes);
        self.write(Event::Image(image));
    }

    pub(crate) fn image_failed(&self, job: &Job, index: u32, status: &Status) {
        let failed = v1::ImageFailed {
            image_index: index,
            seed: job.image_seed(index),
            code: status.code().into(),
            message: status.message().to_owned(),
        };
        self.write(Event::ImageFailed(failed));
    }

    pub(crate) fn completed(&self, job: &Job, failed: u32, times: Times, warnings: Vec<Warning>) {
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
        self.write(Event::Completed(completed));
    }

    /// The end, when it is not `completed`.
    pub(crate) fn fail(&self, status: Status) {
        self.tell(|journal| journal.fail(status));
    }

    /// Whether all pictures were made.
    pub(crate) fn is_whole(&self) -> bool {
        self.told().journal.is_whole()
    }

    /// Bytes of the pictures in it.
    pub(crate) fn bytes(&self) -> usize {
        self.told().shelf.bytes()
    }

    fn write(&self, event: Event) {
        self.tell(|journal| journal.write(event));
    }

    fn tell(&self, write: impl FnOnce(&mut Journal)) {
        let waiting = {
            let mut told = self.told();
            write(&mut told.journal);
            std::mem::take(&mut told.waiting)
        };
        for (_, reader) in waiting {
            reader.wake();
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a log to its end. One that is slow misses steps, and holds up nobody.
pub(crate) struct Reader {
    log: Arc<Log>,
    /// Tells readers of one log apart.
    number: u64,
    seen: u64,
    ahead: VecDeque<Entry>,
    ended: bool,
}

impl Reader {
    /// Who is there from the start.
    pub(crate) fn first(log: &Arc<Log>) -> Self {
        Self::new(log, |_| (Vec::new(), 0))
    }

    /// Who comes later: begins with where it stands.
    pub(crate) fn late(log: &Arc<Log>) -> Self {
        Self::new(log, Journal::replay)
    }

    fn new(log: &Arc<Log>, look: impl FnOnce(&Journal) -> (Vec<Entry>, u64)) -> Self {
        let mut told = log.told();
        let number = told.next_reader;
        told.next_reader += 1;
        let (ahead, seen) = look(&told.journal);
        let ended = told.journal.has_ended() && !ahead.is_empty();
        drop(told);
        Self { log: Arc::clone(log), number, seen, ahead: ahead.into(), ended }
    }
}

impl Stream for Reader {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let reader = &mut *self;
        if reader.ahead.is_empty() && !reader.ended {
            let mut told = reader.log.told();
            let (news, seen) = told.journal.since(reader.seen);
            (reader.ahead, reader.seen, reader.ended) = (news.into(), seen, told.journal.has_ended());
            if reader.ahead.is_empty() && !reader.ended {
                // Asked for before anything else can be written.
                told.waiting.retain(|(number, _)| *number != reader.number);
                told.waiting.push((reader.number, cx.waker().clone()));
                return Poll::Pending;
            }
        }
        let request_id = || reader.log.request_id.to_string();
        let item = reader.ahead.pop_front();
        Poll::Ready(item.map(|entry| entry.map(|event| GenerateEvent { request_id: request_id(), event: Some(event) })))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.log.told().waiting.retain(|(number, _)| *number != self.number);
    }
}
