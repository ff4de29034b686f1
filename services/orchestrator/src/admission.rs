//! Hands the queue's decisions to tasks, as guards: a place is left and a slot is freed by drop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::metrics::OrchestratorMetrics;
use crate::queue::{Full, Queue, Standing, Ticket, Work};

/// The queue with the tasks that wait on it.
pub(crate) struct Admission {
    inner: Mutex<Inner>,
    metrics: Arc<OrchestratorMetrics>,
}

struct Inner {
    queue: Queue,
    /// Where each request takes its slots. At most one slot for each of its pictures is ever in there.
    waiting: HashMap<Ticket, UnboundedSender<Slot>>,
}

impl Admission {
    pub(crate) fn new(queue: Queue, metrics: Arc<OrchestratorMetrics>) -> Arc<Self> {
        let inner = Inner { queue, waiting: HashMap::new() };
        Arc::new(Self { inner: Mutex::new(inner), metrics })
    }

    /// A place in the queue.
    ///
    /// # Errors
    /// [`Full`], with the time after which another try is worth it.
    pub(crate) fn enter(self: &Arc<Self>, work: Work) -> Result<Place, Full> {
        let (sender, slots) = unbounded_channel();
        let ticket = {
            let mut inner = self.lock();
            let ticket = inner.queue.push(work, Instant::now())?;
            inner.waiting.insert(ticket, sender);
            ticket
        };
        let place = Place { admission: Arc::clone(self), ticket, slots };
        self.pump();
        Ok(place)
    }

    /// How many pictures the ready denoisers take together.
    pub(crate) fn set_slots(self: &Arc<Self>, slots: usize) {
        self.lock().queue.set_slots(slots);
        self.pump();
    }

    /// Requests that wait, and how many may.
    pub(crate) fn depth_and_limit(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.queue.depth(), inner.queue.limit())
    }

    /// Sends free slots to whose turn it is. A slot whose receiver has gone comes back by its drop.
    fn pump(self: &Arc<Self>) {
        loop {
            let now = Instant::now();
            let (sender, grant) = {
                let mut inner = self.lock();
                let granted = inner.queue.grant(now);
                self.metrics.queue(&inner.queue);
                let Some(grant) = granted else { return };
                let Some(sender) = inner.waiting.get(&grant.ticket).cloned() else {
                    inner.queue.release();
                    continue;
                };
                (sender, grant)
            };
            if let Some(waited) = grant.waited {
                self.metrics.queue_wait_seconds.record(waited.as_secs_f64());
            }
            _ = sender.send(Slot { admission: Arc::clone(self), ticket: grant.ticket, steps_left: grant.steps });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place, from its arrival to its end.
pub(crate) struct Place {
    admission: Arc<Admission>,
    ticket: Ticket,
    slots: UnboundedReceiver<Slot>,
}

impl Place {
    /// Waits for a slot for the next picture; each picture gets one.
    pub(crate) async fn slot(&mut self) -> Option<Slot> {
        self.slots.recv().await
    }

    /// Where the request stands; `None` once it has started.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.admission.lock().queue.standing(self.ticket)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Slots that were sent and not taken are freed when the channel drops, after this.
        let sender = {
            let mut inner = self.admission.lock();
            inner.queue.leave(self.ticket);
            inner.waiting.remove(&self.ticket)
        };
        drop(sender);
        self.admission.pump();
    }
}

/// One picture's place in a denoiser.
pub(crate) struct Slot {
    admission: Arc<Admission>,
    ticket: Ticket,
    steps_left: u32,
}

impl Slot {
    /// The picture has `done` of its steps behind it.
    pub(crate) fn progress(&mut self, done: u32, of: u32) {
        let left = of.saturating_sub(done).min(self.steps_left);
        let mut inner = self.admission.lock();
        inner.queue.steps_gone(self.ticket, self.steps_left - left);
        self.admission.metrics.queue(&inner.queue);
        self.steps_left = left;
    }

    /// Seconds that a step of the picture is expected to take, if anything was measured.
    pub(crate) fn expected_step(&self) -> Option<f64> {
        self.admission.lock().queue.expected_step(self.ticket)
    }

    /// The picture took `seconds` here.
    pub(crate) fn measure(&self, seconds: f64) {
        self.admission.lock().queue.measure(self.ticket, seconds);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            // Steps that were not done will never be.
            let mut inner = self.admission.lock();
            inner.queue.steps_gone(self.ticket, self.steps_left);
            inner.queue.release();
        }
        self.admission.pump();
    }
}
