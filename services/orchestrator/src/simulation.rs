//! A door for the simulation in `tests/load/autoscale`: the queue as it is, in time that is told, without stages.

use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::config::Config;
use crate::job::Priority;
use crate::scheduler::{Arrival, Early, Scheduler, SlotId, Ticket, Work, WorkerSpeed};

/// What one denoiser says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Denoiser {
    /// Latent pixels that run at once.
    pub batch_pixels: u64,
    /// Latent pixels of one guided picture of the default size, and seconds of an evaluation of it alone.
    pub picture: (u64, f64),
    /// Seconds of an evaluation of a full batch.
    pub batch_seconds: f64,
}

/// What a request asks of the denoisers.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Who asks.
    pub client: String,
    /// Pictures.
    pub images: u32,
    /// Of the UNet, for each of them.
    pub evaluations: u32,
    /// Latent pixels of all rows of one evaluation of one of them.
    pub pixels: u64,
}

impl Ask {
    fn client(&self) -> Client {
        Client::named(&self.client)
    }

    fn work(&self) -> Work {
        let Self { images, evaluations, pixels, .. } = *self;
        Work { images, evaluations, pixels, priority: Priority::Normal }
    }
}

/// A request in the queue, from its arrival to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(Ticket);

/// One picture's share of the denoisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(SlotId);

/// A request that waits for any denoiser at all.
#[derive(Debug)]
pub struct Waiting(Early);

/// A slot for one picture of a request.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// Whose.
    pub place: Place,
    /// Which.
    pub slot: Slot,
    /// How long the request waited; with its first slot only.
    pub waited: Option<Duration>,
}

/// An orchestrator's queue.
#[derive(Debug)]
pub struct Queue(Scheduler);

impl Queue {
    /// As `start` makes it, with nobody in it.
    pub fn new(config: &Config, epoch: Instant) -> Self {
        Self(Scheduler::new(config.scheduling(), config.assumed_pixel_seconds(), epoch))
    }

    /// The denoisers that take work now.
    pub fn set_denoisers(&mut self, denoisers: &[Denoiser]) {
        let speed = |denoiser: &Denoiser| WorkerSpeed {
            batch_pixels: denoiser.batch_pixels,
            picture: denoiser.picture,
            batch_seconds: denoiser.batch_seconds,
        };
        self.0.set_workers(&denoisers.iter().map(speed).collect::<Vec<_>>());
    }

    /// A request comes while there is no denoiser, or is refused with a message.
    pub fn wait(&mut self, ask: &Ask, now: Instant) -> Result<Waiting, String> {
        self.0.enter_early(&ask.client(), ask.work(), now).map(Waiting).map_err(|refusal| refusal.to_string())
    }

    /// It waits for a denoiser no longer.
    pub fn stop_waiting(&mut self, waiting: &Waiting) {
        self.0.leave_early(&waiting.0);
    }

    /// A request comes, or comes in after it `waited` for a denoiser; or is refused with a message.
    pub fn enter(&mut self, ask: &Ask, waited: Duration, now: Instant) -> Result<Place, String> {
        let (client, work) = (ask.client(), ask.work());
        let arrival = Arrival { client, work, deadline: None, besides: Duration::ZERO, waited };
        self.0.push(arrival, now).map(Place).map_err(|refusal| refusal.to_string())
    }

    /// The next free slot, if it is anybody's turn.
    pub fn grant(&mut self, now: Instant) -> Option<Grant> {
        let grant = self.0.grant(now)?;
        Some(Grant { place: Place(grant.ticket), slot: Slot(grant.slot), waited: grant.waited })
    }

    /// A picture has so many of its steps behind it.
    pub fn progress(&mut self, slot: Slot, done: u32, of: u32) {
        self.0.progress(slot.0, done, of);
    }

    /// A picture has lost its denoiser.
    pub fn park(&mut self, slot: Slot) {
        self.0.park(slot.0);
    }

    /// The next parked picture that can go on.
    pub fn resume(&mut self) -> Option<Slot> {
        self.0.resume().map(Slot)
    }

    /// A picture's denoising took `seconds` from its first to its last evaluation.
    pub fn measure(&mut self, slot: Slot, seconds: f64) {
        self.0.measure(slot.0, seconds);
    }

    /// A picture is done, and its request with its last.
    pub fn release(&mut self, slot: Slot) {
        self.0.release(slot.0);
    }

    /// A request ends.
    pub fn leave(&mut self, place: Place) {
        self.0.leave(place.0);
    }

    /// What `darkroom_queued_work_seconds` says.
    pub fn work_seconds(&self) -> f64 {
        self.0.work_seconds()
    }

    /// What `darkroom_admitted_work_seconds_total` says.
    pub fn admitted_seconds(&self) -> f64 {
        self.0.admitted_seconds().floor()
    }

    /// What `darkroom_queue_depth` says.
    pub fn depth(&self) -> usize {
        self.0.depth()
    }
}
