//! Who is next, who is let in, and how long it will take: a plain struct that is told the time.
//!
//! A *slot* is one picture's share of the denoisers' capacity, in latent pixels. Slots go to waiting requests in the order of
//! `order`: class, then client, then age and length. One that does not fit may be passed by one that does, eight times; then
//! nobody gets a slot until it fits. A request of several pictures gets its slots one by one, each by that order.
//!
//! A slot is free when its picture's last evaluation begins, so that the next picture is at the worker when that ends and no batch
//! runs with a gap for as long as an answer takes. A picture that has lost its worker is *parked* until what is left of the fleet
//! has room for it, before any that has not begun.
//!
//! Nobody waits for ever: a class that got nothing for `ageing` has the next turn, whatever waits above it, and inside a client's
//! share a request may be passed by shorter ones only while they come within a few times its own length. `bounds` says who is let
//! in, `speed` turns work into seconds, `forecast` plays the order forward.

mod bounds;
mod early;
mod forecast;
mod order;
mod refusal;
mod signal;
mod speed;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::clients::{Client, Identity};
use crate::job::Priority;

use bounds::Waiting;
pub(crate) use early::Early;
pub(crate) use forecast::{Standing, Standings};
use order::{Order, Seat};
pub(crate) use refusal::Refusal;
pub(crate) use speed::{Speed, WorkerSpeed};
use work::duration;
pub(crate) use work::{Arrival, Work};

/// A request may be passed by shorter ones of its client that come within so many times its own length.
const STRETCH: f64 = 4.0;
/// How often one that does not fit may be passed by one that does.
const PASSES: u32 = 8;

/// A request, from its arrival to its end. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// One picture's slot. What it holds is given back with [`Scheduler::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(u64);

/// A slot for one picture of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) ticket: Ticket,
    pub(crate) slot: SlotId,
    /// How long the request waited; with its first slot only.
    pub(crate) waited: Option<Duration>,
}

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests that wait.
    pub(crate) requests: usize,
    /// Their work, in time that the fleet needs for it.
    pub(crate) time: Duration,
    /// A class that waits and has got nothing for so long has the next turn.
    pub(crate) ageing: Duration,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    work: Work,
    deadline: Option<Instant>,
    besides: Duration,
    entered: Instant,
    /// Where it waits.
    seat: Seat,
    /// Pictures that have no slot yet.
    images_waiting: u32,
    started: bool,
    /// How often others got a slot that it was too large for.
    passed: u32,
}

impl Entry {
    fn waiting_work(&self) -> u64 {
        self.work.picture().saturating_mul(self.images_waiting.into())
    }
}

/// A picture that has its slot.
#[derive(Debug)]
struct Running {
    ticket: Ticket,
    identity: Identity,
    pixels: u64,
    /// What it takes of the capacity now.
    room: u64,
    evaluations: u32,
    evaluations_left: u32,
    parked: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    speed: Speed,
    epoch: Instant,
    entries: HashMap<Ticket, Entry>,
    order: Order,
    /// Since when each class that waits has got nothing.
    hungry: BTreeMap<Priority, Instant>,
    /// Waiting pictures by what each takes of the capacity.
    sizes: BTreeMap<u64, usize>,
    running: HashMap<SlotId, Running>,
    /// Those that have lost their worker, and take nothing of the capacity.
    parked: BTreeSet<SlotId>,
    waiting: Waiting,
    /// Of the capacity.
    used: u64,
    running_work: u64,
    /// Seconds that one denoiser needs for all that was let in so far.
    admitted: f64,
    next: u64,
}

impl Scheduler {
    /// Nobody waits and no worker is there. Evaluations are taken to last `assumed` seconds for each latent pixel until a worker
    /// has measured itself.
    pub(crate) fn new(limits: Limits, assumed: f64, epoch: Instant) -> Self {
        Self {
            limits,
            speed: Speed::assumed(assumed),
            epoch,
            entries: HashMap::new(),
            order: Order::default(),
            hungry: BTreeMap::new(),
            sizes: BTreeMap::new(),
            running: HashMap::new(),
            parked: BTreeSet::new(),
            waiting: Waiting::new(limits.requests),
            used: 0,
            running_work: 0,
            admitted: 0.0,
            next: 0,
        }
    }

    /// So many requests may wait now, of so many that may in all queues.
    pub(crate) fn set_places(&mut self, now: usize, of: usize) {
        self.waiting.set_limit(now, of);
    }

    /// The denoisers that take work now.
    pub(crate) fn set_workers(&mut self, workers: &[WorkerSpeed]) {
        self.speed.set_workers(workers);
    }

    /// Lets a request in, or says why not. One that finds a free slot is refused only for its deadline.
    ///
    /// # Errors
    /// [`Refusal`], with what the client can do about it.
    pub(crate) fn push(&mut self, arrival: Arrival, now: Instant) -> Result<Ticket, Refusal> {
        let Arrival { client, work, deadline, besides, waited } = arrival;
        let work = Work { priority: work.priority.min(client.max_priority), ..work };
        let at_once = self.waiting.requests() == 0 && self.parked.is_empty() && self.fits(work.pixels);
        if let Some(deadline) = deadline {
            self.in_time(&client, work, besides, at_once, deadline, now)?;
        }
        if !at_once {
            let throughput = self.speed.throughput();
            let entrance = self.waiting.let_in(&client.identity, work.total(), self.bound(), throughput, now);
            entrance.map_err(Refusal::Full)?;
        }
        let ticket = Ticket(self.next());
        let entered = now.checked_sub(waited).unwrap_or(now);
        let seat = Seat { class: work.priority, rank: self.rank(entered, work.total(), work), ticket };
        self.order.enter(&client, seat.class);
        self.order.insert(&client.identity, seat);
        self.hungry.entry(seat.class).or_insert(now);
        self.waiting.add(&client.identity, work.total(), self.bound());
        self.admitted += self.seconds(work.total());
        *self.sizes.entry(work.pixels).or_default() += work.images as usize;
        let entry = Entry {
            client,
            work,
            deadline,
            besides,
            entered,
            seat,
            images_waiting: work.images,
            started: false,
            passed: 0,
        };
        self.entries.insert(ticket, entry);
        Ok(ticket)
    }

    /// A picture has lost its worker, and goes on when [`Scheduler::resume`] names it.
    pub(crate) fn park(&mut self, slot: SlotId) {
        if let Some(running) = self.running.get_mut(&slot).filter(|running| !running.parked) {
            running.parked = true;
            self.used -= std::mem::take(&mut running.room);
            self.parked.insert(slot);
        }
    }

    /// The next parked picture for which there is room: the one that has run the longest.
    pub(crate) fn resume(&mut self) -> Option<SlotId> {
        let slot = *self.parked.first()?;
        let pixels = self.running.get(&slot)?.pixels;
        if !self.fits(pixels) {
            return None;
        }
        let room = self.speed.room(pixels);
        self.parked.remove(&slot);
        if let Some(running) = self.running.get_mut(&slot) {
            (running.parked, running.room) = (false, room);
            self.used += room;
        }
        Some(slot)
    }

    /// Gives the next free slot to whose turn it is, once no picture is parked any more.
    pub(crate) fn grant(&mut self, now: Instant) -> Option<Grant> {
        let smallest = *self.sizes.keys().next()?;
        if !self.fits(smallest) || !self.parked.is_empty() {
            return None;
        }
        let mut candidates = self.order.candidates(self.starved(now));
        let first = candidates.next()?;
        let fitting = |ticket: &Ticket| self.entries.get(ticket).is_some_and(|entry| self.fits(entry.work.pixels));
        let chosen = if fitting(&first) { first } else { candidates.find(fitting)? };
        drop(candidates);
        if chosen != first {
            let held = self.entries.get_mut(&first)?;
            if held.passed >= PASSES {
                return None;
            }
            held.passed += 1;
        }
        self.give(chosen, now)
    }

    fn give(&mut self, ticket: Ticket, now: Instant) -> Option<Grant> {
        let entry = self.entries.get_mut(&ticket)?;
        let (work, identity, before) = (entry.work, entry.client.identity.clone(), entry.seat);
        entry.images_waiting -= 1;
        entry.passed = 0;
        let first = !std::mem::replace(&mut entry.started, true);
        let waited = first.then(|| now.saturating_duration_since(entry.entered));
        let (left, entered) = (entry.waiting_work(), entry.entered);

        self.order.remove(&identity, before);
        if left > 0 {
            let seat = Seat { rank: self.rank(entered, left, work), ..before };
            self.order.insert(&identity, seat);
            if let Some(entry) = self.entries.get_mut(&ticket) {
                entry.seat = seat;
            }
        }
        match self.order.waits(before.class) {
            true => self.hungry.insert(before.class, now),
            false => self.hungry.remove(&before.class),
        };
        self.order.give(&identity, work.picture());
        self.waiting.take(&identity, work.picture(), first);
        self.take_size(work.pixels, 1);
        let room = self.speed.room(work.pixels);
        self.used += room;
        self.running_work += work.picture();
        let slot = SlotId(self.next());
        let running = Running {
            ticket,
            identity,
            pixels: work.pixels,
            room,
            evaluations: work.evaluations,
            evaluations_left: work.evaluations,
            parked: false,
        };
        self.running.insert(slot, running);
        Some(Grant { ticket, slot, waited })
    }

    /// A picture has `done` of its steps behind it. Before the last one its place is free.
    pub(crate) fn progress(&mut self, slot: SlotId, done: u32, of: u32) {
        if let Some(running) = self.running.get_mut(&slot) {
            if done + 1 >= of {
                self.used -= std::mem::take(&mut running.room);
            }
            let to_do = u64::from(running.evaluations) * u64::from(of.saturating_sub(done));
            let left = to_do.div_ceil(of.max(1).into()).min(running.evaluations_left.into()) as u32;
            let gone = u64::from(running.evaluations_left - left) * running.pixels;
            running.evaluations_left = left;
            self.running_work -= gone;
            self.order.done(&running.identity, gone);
        }
    }

    /// A picture that is denoised cannot be decoded yet: it keeps its place, so that others do not join it.
    pub(crate) fn hold(&mut self, slot: SlotId) {
        if let Some(running) = self.running.get_mut(&slot).filter(|running| running.room == 0) {
            running.room = self.speed.room(running.pixels);
            self.used += running.room;
        }
    }

    /// A slot is free again. Work that was not done there was not given.
    pub(crate) fn release(&mut self, slot: SlotId) {
        let Some(running) = self.running.remove(&slot) else { return };
        let left = u64::from(running.evaluations_left) * running.pixels;
        self.used -= running.room;
        self.parked.remove(&slot);
        self.running_work -= left;
        if left > 0 {
            self.order.give_back(&running.identity, left);
        }
    }

    /// The request ends, finished or not. Places that it still holds are released for themselves.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.remove(&ticket) else { return };
        let identity = &entry.client.identity;
        if entry.images_waiting > 0 {
            self.order.remove(identity, entry.seat);
            self.waiting.take(identity, entry.waiting_work(), !entry.started);
            self.take_size(entry.work.pixels, entry.images_waiting as usize);
        }
        if !self.order.waits(entry.seat.class) {
            self.hungry.remove(&entry.seat.class);
        }
        self.order.leave(identity);
    }

    /// A picture's denoising took `seconds` from its first to its last evaluation.
    pub(crate) fn measure(&mut self, slot: SlotId, seconds: f64) {
        let Some(running) = self.running.get(&slot) else { return };
        let Some(entry) = self.entries.get(&running.ticket) else { return };
        self.speed.measure(running.pixels, entry.work.evaluations, self.used, seconds);
    }

    /// Seconds that one of the picture's evaluations is expected to take; `None` while nothing was measured.
    pub(crate) fn expected_evaluation(&self, slot: SlotId) -> Option<f64> {
        let running = self.running.get(&slot).filter(|_| self.speed.is_measured())?;
        Some(self.speed.expected(running.pixels, 1, self.used))
    }

    /// Requests that wait for their first slot.
    pub(crate) fn depth(&self) -> usize {
        self.waiting.requests()
    }

    /// Work that may wait.
    fn bound(&self) -> f64 {
        self.limits.time.as_secs_f64() * self.speed.throughput()
    }

    fn fits(&self, pixels: u64) -> bool {
        let capacity = self.speed.capacity();
        capacity > 0 && (self.used == 0 || self.used.saturating_add(self.speed.room(pixels)) <= capacity)
    }

    /// Age and length in one: of two requests of a client the one whose rank is lower goes first.
    fn rank(&self, entered: Instant, left: u64, work: Work) -> Duration {
        let evaluations = left / work.pixels.max(1);
        let length = self.speed.expected(work.pixels, 1, 0) * evaluations as f64;
        entered.saturating_duration_since(self.epoch).saturating_add(duration(STRETCH * length))
    }

    /// The class that has got nothing for too long, if there is one.
    fn starved(&self, now: Instant) -> Option<Priority> {
        let since = |since: &Instant| now.saturating_duration_since(*since) >= self.limits.ageing;
        let longest = self.hungry.iter().min_by_key(|(_, since)| **since);
        longest.filter(|(_, at)| since(at)).map(|(class, _)| *class)
    }

    fn take_size(&mut self, pixels: u64, count: usize) {
        if let Some(left) = self.sizes.get_mut(&pixels) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.sizes.remove(&pixels);
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests;
