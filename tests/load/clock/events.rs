//! One request's events on their way from the batch to its stream: a reader that is slow misses steps, never the end.

use std::time::{Duration, Instant};

use darkroom_proto::v1::{
    Checkpoint, DenoiseAccepted, DenoiseEvent, DenoiseFinished, DenoiseStep, StateTensor, Tensor, denoise_event::Event,
};
use darkroom_samplers::Plan;
use darkroom_service_kit::status;
use tokio::sync::mpsc;
use tonic::Status;

use super::batch::Listener;
use super::facts::Facts;
use super::latents::{Digest, Spent};
use super::request::Work;

/// Events that wait for a slow reader.
const BACKLOG: usize = 32;
/// Bytes of checkpoints a second on one stream, as the engine's.
const CHECKPOINT_RATE: f64 = 1e6;

type Item = Result<DenoiseEvent, Status>;

/// The batch's side of a stream.
pub(super) struct Events {
    work: Work,
    attempt: u32,
    preview_every: u32,
    tell_spent: bool,
    told_steps: u32,
    told_checkpoint: Option<Instant>,
    sender: mpsc::Sender<Item>,
    /// The end's place is taken at the start.
    end: mpsc::OwnedPermit<Item>,
}

impl Events {
    /// Both sides, with the first event told.
    ///
    /// # Errors
    /// Never; the channel is new.
    pub(super) fn open(
        work: Work,
        attempt: u32,
        preview_every: u32,
        tell_spent: bool,
    ) -> Result<(Self, mpsc::Receiver<Item>), Status> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let end = sender.clone().try_reserve_owned().map_err(|_| Status::internal("a new channel is full"))?;
        let told_steps = work.schedule.finished(work.from);
        let events = Self { work, attempt, preview_every, tell_spent, told_steps, told_checkpoint: None, sender, end };
        events.tell(Event::Accepted(DenoiseAccepted { evaluations: events.evaluations() }));
        Ok((events, receiver))
    }

    /// Evaluations that are to be done here.
    pub(super) fn evaluations(&self) -> u32 {
        self.work.schedule.evaluations() - self.work.from
    }

    /// Ends the stream with a status.
    pub(super) fn fail(self, status: Status) {
        self.end.send(Err(status));
    }

    fn tell(&self, event: Event) {
        // A full channel is a slow reader.
        _ = self.sender.try_send(Ok(DenoiseEvent { event: Some(event), attempt: self.attempt }));
    }

    fn step(&mut self, evaluation: u32) {
        let (step, of) = (self.work.schedule.finished(evaluation), self.work.schedule.steps);
        if step > self.told_steps {
            self.told_steps = step;
            let preview = (self.preview_every > 0 && step.is_multiple_of(self.preview_every)).then(|| self.grey());
            self.tell(Event::Step(DenoiseStep { step, of, preview }));
        }
    }

    fn checkpoint(&mut self, evaluation: u32, at: Instant) {
        let shape = self.shape();
        let bytes = size_of::<f32>() * shape.iter().product::<usize>();
        let due = |told: Instant| bytes as f64 <= CHECKPOINT_RATE * at.saturating_duration_since(told).as_secs_f64();
        if !self.told_checkpoint.is_none_or(due) {
            return;
        }
        self.told_checkpoint = Some(at);
        let tensor = Some(self.digest(evaluation).tensor(&shape, None));
        let states = vec![StateTensor { name: "latents".into(), tensor }];
        self.tell(Event::Checkpoint(Checkpoint { plan_version: Plan::VERSION, evaluation, states, noise_draws: 0 }));
    }

    fn digest(&self, evaluation: u32) -> Digest {
        self.work.digest.evaluated(self.work.from, evaluation)
    }

    fn shape(&self) -> [usize; 3] {
        let size = self.work.cost.size;
        [Facts::CHANNELS, size.height, size.width]
    }

    fn grey(&self) -> Tensor {
        let size = self.work.cost.size;
        Tensor::from_u8(&[size.height, size.width, 3], vec![128; size.pixels() * 3])
    }
}

impl Listener for Events {
    fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    fn evaluated(&mut self, done: u32, at: Instant) {
        let evaluation = self.work.from + done;
        self.step(evaluation);
        self.checkpoint(evaluation, at);
    }

    fn finished(mut self, queued: Duration, computed: Duration) {
        let evaluations = self.work.schedule.evaluations();
        self.step(evaluations);
        let spent = self.tell_spent.then(|| Spent::new(queued, computed));
        let finished = DenoiseFinished {
            latents: Some(self.digest(evaluations).tensor(&self.shape(), spent)),
            seconds: computed.as_secs_f64(),
            queue_seconds: queued.as_secs_f64(),
        };
        self.end.send(Ok(DenoiseEvent { event: Some(Event::Finished(finished)), attempt: self.attempt }));
    }

    fn expired(self) {
        self.fail(status::deadline_exceeded());
    }
}
