//! Hands the scheduler's decisions to tasks, as guards: a place in the queue is left and a slot is freed by drop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

use crate::clients::Client;
use crate::metrics::OrchestratorMetrics;
use crate::places::Places;
use crate::scheduler::{Arrival, Early, Refusal, Scheduler, SlotId, Standing, Standings, Ticket, Work, WorkerSpeed};

/// Pauses between two forecasts: at least this, and so many times as long as one took.
const PAUSE: Duration = Duration::from_millis(20);
const SPARSE: u32 = 20;
/// Weight of the newest request in the time that requests need besides denoising.
const SMOOTHING: f64 = 0.2;

/// How much there is to do, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    /// Requests that wait for their first slot, and how many may.
    pub(crate) waiting: usize,
    pub(crate) limit: usize,
    /// Requests that have begun.
    pub(crate) running: usize,
    /// Seconds that one denoiser needs for all of it.
    pub(crate) work_seconds: f64,
}

/// The scheduler with the tasks that wait on it.
pub(crate) struct Admission {
    inner: Mutex<Inner>,
    /// Who waits or runs has changed.
    changed: Notify,
    standings: watch::Sender<Standings>,
    /// What of all queues' places is this one's.
    places: Places,
    metrics: Arc<OrchestratorMetrics>,
}

struct Inner {
    scheduler: Scheduler,
    /// Where each request takes its slots. At most one slot for each of its pictures is ever in there.
    waiting: HashMap<Ticket, UnboundedSender<Slot>>,
    /// Who waits for room to go on.
    parked: HashMap<SlotId, oneshot::Sender<()>>,
    /// Seconds that pictures need besides denoising, smoothed.
    besides: f64,
}

impl Admission {
    pub(crate) fn new(scheduler: Scheduler, places: Places, metrics: Arc<OrchestratorMetrics>) -> Arc<Self> {
        let inner = Inner { scheduler, waiting: HashMap::new(), parked: HashMap::new(), besides: 0.0 };
        let (changed, standings) = (Notify::new(), watch::Sender::new(Standings::default()));
        Arc::new(Self { inner: Mutex::new(inner), changed, standings, places, metrics })
    }

    /// Counts a request as work while it waits for any worker at all; `work` is an estimate.
    ///
    /// # Errors
    /// [`Refusal`], with what the client can do about it.
    pub(crate) fn enter_early(self: &Arc<Self>, client: &Client, work: Work) -> Result<EarlyPlace, Refusal> {
        let mut inner = self.lock();
        let early = self.places.enter(|most| {
            inner.scheduler.set_places(most, self.places.limit());
            let early = inner.scheduler.enter_early(client, work, Instant::now());
            (inner.scheduler.depth(), early)
        })?;
        self.metrics.queue(&inner.scheduler);
        Ok(EarlyPlace { admission: Arc::clone(self), early })
    }

    /// A place in the queue for a request that came at `arrived`; `decoded` says that pictures are wanted, not latents.
    ///
    /// # Errors
    /// [`Refusal`], with what the client can do about it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        client: Client,
        work: Work,
        arrived: Instant,
        deadline: Option<Instant>,
        decoded: bool,
    ) -> Result<Place, Refusal> {
        let (sender, slots) = unbounded_channel();
        let ticket = {
            let mut inner = self.lock();
            let besides = Some(inner.besides).filter(|_| decoded).unwrap_or_default();
            let besides = Duration::try_from_secs_f64(besides).unwrap_or_default();
            let now = Instant::now();
            let waited = now.saturating_duration_since(arrived);
            let arrival = Arrival { client, work, deadline, besides, waited };
            let ticket = self.places.enter(|most| {
                inner.scheduler.set_places(most, self.places.limit());
                let ticket = inner.scheduler.push(arrival, now);
                (inner.scheduler.depth(), ticket)
            })?;
            inner.waiting.insert(ticket, sender);
            ticket
        };
        let place = Place { admission: Arc::clone(self), ticket, slots };
        self.pump();
        Ok(place)
    }

    /// The denoisers that take work now.
    pub(crate) fn set_workers(self: &Arc<Self>, workers: &[WorkerSpeed]) {
        self.lock().scheduler.set_workers(workers);
        self.pump();
    }

    /// A request's text, decoding and files took so long together.
    fn measure_besides(&self, took: Duration) {
        let mut inner = self.lock();
        let took = took.as_secs_f64();
        inner.besides = if inner.besides == 0.0 { took } else { inner.besides + SMOOTHING * (took - inner.besides) };
    }

    /// How much there is to do, and how many requests may wait in all queues.
    pub(crate) fn backlog(&self) -> Backlog {
        let Inner { scheduler, waiting: senders, .. } = &*self.lock();
        Backlog {
            waiting: scheduler.depth(),
            limit: self.places.limit(),
            running: senders.len().saturating_sub(scheduler.depth()),
            work_seconds: scheduler.work_seconds(),
        }
    }

    /// Keeps the standings of those who wait up to date, for as long as it is polled: soon after each change, and the more
    /// seldom the longer it takes.
    pub(crate) async fn forecast(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            let begun = Instant::now();
            let forecast = self.lock().scheduler.forecast();
            self.standings.send_modify(|standings| standings.replace(forecast.standings()));
            sleep((SPARSE * begun.elapsed()).max(PAUSE)).await;
        }
    }

    /// Sends free slots to whose turn it is. A slot whose receiver has gone comes back by its drop.
    fn pump(self: &Arc<Self>) {
        loop {
            let now = Instant::now();
            let (sender, slot, waited) = {
                let mut inner = self.lock();
                while let Some(slot) = inner.scheduler.resume() {
                    _ = inner.parked.remove(&slot).map(|resumed| resumed.send(()));
                }
                let granted = inner.scheduler.grant(now);
                self.places.count(inner.scheduler.depth());
                self.metrics.queue(&inner.scheduler);
                let Some(grant) = granted else { break };
                let Some(sender) = inner.waiting.get(&grant.ticket).cloned() else {
                    inner.scheduler.release(grant.slot);
                    continue;
                };
                (sender, Slot { admission: Arc::clone(self), id: grant.slot }, grant.waited)
            };
            if let Some(waited) = waited {
                self.metrics.queue_wait_seconds.record(waited.as_secs_f64());
            }
            _ = sender.send(slot);
        }
        if self.lock().scheduler.depth() > 0 {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place before the queue, while there is no worker.
pub(crate) struct EarlyPlace {
    admission: Arc<Admission>,
    early: Early,
}

impl Drop for EarlyPlace {
    fn drop(&mut self) {
        let mut inner = self.admission.lock();
        inner.scheduler.leave_early(&self.early);
        self.admission.places.count(inner.scheduler.depth());
        self.admission.metrics.queue(&inner.scheduler);
    }
}

/// A request's place in the queue, from its arrival to its end.
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

    /// Wakes whenever the standings are new.
    pub(crate) fn standings(&self) -> watch::Receiver<Standings> {
        self.admission.standings.subscribe()
    }

    /// Where the request stands, by the latest forecast; `None` once it has started.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.admission.standings.borrow().of(self.ticket)
    }

    /// The moment after which it has no chance to meet its deadline; `None` without one.
    pub(crate) fn latest_start(&self) -> Option<Instant> {
        self.admission.lock().scheduler.latest_start(self.ticket)
    }

    /// Its text, decoding and files took so long together.
    pub(crate) fn measure_besides(&self, took: Duration) {
        self.admission.measure_besides(took);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Slots that were sent and not taken are freed when the channel drops, after this.
        let sender = {
            let mut inner = self.admission.lock();
            inner.scheduler.leave(self.ticket);
            inner.waiting.remove(&self.ticket)
        };
        drop(sender);
        self.admission.pump();
    }
}

/// One picture's place in a denoiser.
pub(crate) struct Slot {
    admission: Arc<Admission>,
    id: SlotId,
}

impl Slot {
    /// The picture has `done` of its steps behind it. Says whether it can still be done by its deadline.
    pub(crate) fn progress(&mut self, done: u32, of: u32) -> bool {
        let in_time = {
            let mut inner = self.admission.lock();
            inner.scheduler.progress(self.id, done, of);
            self.admission.metrics.queue(&inner.scheduler);
            !inner.scheduler.is_lost(self.id, Instant::now())
        };
        if done + 1 == of {
            self.admission.pump();
        }
        in_time
    }

    /// The picture is denoised, and waits for somebody to decode it: no more is denoised in its place.
    pub(crate) fn hold(&mut self) {
        self.admission.lock().scheduler.hold(self.id);
    }

    /// The picture has lost its worker: what this gives ends when there is room for it to go on.
    pub(crate) fn park(&mut self) -> oneshot::Receiver<()> {
        let (sender, resumed) = oneshot::channel();
        {
            let mut inner = self.admission.lock();
            inner.scheduler.park(self.id);
            inner.parked.insert(self.id, sender);
        }
        self.admission.pump();
        resumed
    }

    /// Seconds that an evaluation of the picture is expected to take, if anything was measured.
    pub(crate) fn expected_evaluation(&self) -> Option<f64> {
        self.admission.lock().scheduler.expected_evaluation(self.id)
    }

    /// The picture's denoising took `seconds` here.
    pub(crate) fn measure(&self, seconds: f64) {
        self.admission.lock().scheduler.measure(self.id, seconds);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut inner = self.admission.lock();
            inner.scheduler.release(self.id);
            inner.parked.remove(&self.id);
        }
        self.admission.pump();
    }
}
