//! Who is next, and how long it may take: a plain struct that is told the time.
//!
//! A *slot* is one picture's place in a denoiser. Slots go to the waiting request of the highest priority, the oldest first; a
//! request of several pictures takes as many as are free when it is its turn, and more as they come, before the next
//! request gets any. Work is counted in rows × latent pixels × steps, so that a large picture or one without guidance counts
//! for what it costs, and turned into seconds by what finished pictures have taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::job::Priority;

/// Weight of the newest measurement in the running mean.
const SMOOTHING: f64 = 0.2;
/// Nobody needs to try again sooner than this.
const LEAST_RETRY: Duration = Duration::from_secs(1);

/// A request in the queue. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// What a request will cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) images: u32,
    pub(crate) steps: u32,
    /// Of one step of one picture: rows (two with guidance) × latent height × latent width.
    pub(crate) per_step: u64,
    pub(crate) priority: Priority,
}

/// A slot for one picture of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) ticket: Ticket,
    /// Steps of the picture.
    pub(crate) steps: u32,
    /// How long the request waited; with its first slot only.
    pub(crate) waited: Option<Duration>,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Requests before this one.
    pub(crate) position: usize,
    /// Until it starts; `None` when nothing was measured yet.
    pub(crate) estimated: Option<Duration>,
}

/// The queue holds all it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests wait already, which is this server's limit; try again in {} s", retry_after.as_secs())]
pub(crate) struct Full {
    pub(crate) waiting: usize,
    pub(crate) retry_after: Duration,
}

#[derive(Debug)]
struct Entry {
    priority: Priority,
    entered: Instant,
    /// Pictures that have no slot yet.
    images_waiting: u32,
    started: bool,
    per_step: u64,
    steps: u32,
    /// Work of all its pictures that is still to do.
    remaining: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Queue {
    limit: usize,
    slots: usize,
    slots_used: usize,
    entries: BTreeMap<Ticket, Entry>,
    /// Requests with pictures that wait for a slot, in the order of their turn.
    order: BTreeSet<(Reverse<Priority>, Ticket)>,
    next_ticket: u64,
    /// Requests that have not started.
    depth: usize,
    /// Work of all requests that is still to do.
    remaining: u64,
    /// Seconds a unit of work takes in one slot, once measured.
    measured: Option<f64>,
    /// The same, before.
    assumed: f64,
}

impl Queue {
    /// An empty queue that lets `limit` requests wait. `assumed` seconds a unit of work count until the first was measured.
    pub(crate) fn new(limit: usize, assumed: f64) -> Self {
        Self {
            limit,
            slots: 0,
            slots_used: 0,
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            next_ticket: 0,
            depth: 0,
            remaining: 0,
            measured: None,
            assumed,
        }
    }

    /// How many pictures all ready denoisers together take at once.
    pub(crate) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// Puts a request at the end of its priority. One that finds a free slot does not wait and is never refused.
    pub(crate) fn push(&mut self, work: Work, now: Instant) -> Result<Ticket, Full> {
        let starts_at_once = self.order.is_empty() && self.slots_used < self.slots;
        if self.depth >= self.limit && !starts_at_once {
            return Err(Full { waiting: self.depth, retry_after: self.retry_after() });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let remaining = u64::from(work.images) * u64::from(work.steps) * work.per_step;
        self.remaining += remaining;
        self.depth += 1;
        self.order.insert((Reverse(work.priority), ticket));
        let entry = Entry {
            priority: work.priority,
            entered: now,
            images_waiting: work.images,
            started: false,
            per_step: work.per_step,
            steps: work.steps,
            remaining,
        };
        self.entries.insert(ticket, entry);
        Ok(ticket)
    }

    /// Gives the next free slot to whose turn it is.
    pub(crate) fn grant(&mut self, now: Instant) -> Option<Grant> {
        if self.slots_used >= self.slots {
            return None;
        }
        let &(priority, ticket) = self.order.first()?;
        let entry = self.entries.get_mut(&ticket)?;
        self.slots_used += 1;
        entry.images_waiting -= 1;
        if entry.images_waiting == 0 {
            self.order.remove(&(priority, ticket));
        }
        let first = !std::mem::replace(&mut entry.started, true);
        if first {
            self.depth -= 1;
        }
        let waited = first.then(|| now.saturating_duration_since(entry.entered));
        Some(Grant { ticket, steps: entry.steps, waited })
    }

    /// Steps of one of the request's pictures are done, or will never be.
    pub(crate) fn steps_gone(&mut self, ticket: Ticket, steps: u32) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            let gone = (u64::from(steps) * entry.per_step).min(entry.remaining);
            entry.remaining -= gone;
            self.remaining -= gone;
        }
    }

    /// A slot is free again.
    pub(crate) fn release(&mut self) {
        self.slots_used = self.slots_used.saturating_sub(1);
    }

    /// The request ends, finished or not. Slots that it still holds are released for themselves.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        if let Some(entry) = self.entries.remove(&ticket) {
            self.order.remove(&(Reverse(entry.priority), ticket));
            self.remaining -= entry.remaining;
            self.depth -= usize::from(!entry.started);
        }
    }

    /// A picture of this request took `seconds` in its slot.
    pub(crate) fn measure(&mut self, ticket: Ticket, seconds: f64) {
        let Some(entry) = self.entries.get(&ticket) else { return };
        let work = u64::from(entry.steps) * entry.per_step;
        let rate = seconds / work.max(1) as f64;
        if rate.is_finite() && rate > 0.0 {
            self.measured = Some(self.measured.map_or(rate, |mean| mean + SMOOTHING * (rate - mean)));
        }
    }

    /// Seconds that a step of one of the request's pictures is expected to take; `None` when nothing was measured yet.
    pub(crate) fn expected_step(&self, ticket: Ticket) -> Option<f64> {
        Some(self.entries.get(&ticket)?.per_step as f64 * self.measured?)
    }

    /// Where a request stands; `None` once it has started.
    pub(crate) fn standing(&self, ticket: Ticket) -> Option<Standing> {
        let entry = self.entries.get(&ticket).filter(|entry| !entry.started)?;
        let mine = (Reverse(entry.priority), ticket);
        let before = |(other, entry): (&Ticket, &Entry)| entry.started || (Reverse(entry.priority), *other) < mine;
        let ahead: u64 = self.entries.iter().filter(|&pair| before(pair)).map(|(_, entry)| entry.remaining).sum();
        Some(Standing {
            position: self.order.range(..mine).count(),
            estimated: self.measured.map(|rate| self.spread(ahead, rate)),
        })
    }

    /// Requests that wait for their first slot.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The most that may.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Seconds of work that waits or runs, in one slot after the other: known without any worker.
    pub(crate) fn work_seconds(&self) -> f64 {
        self.remaining as f64 * self.measured.unwrap_or(self.assumed)
    }

    /// Until one request's worth of the work ahead is done.
    fn retry_after(&self) -> Duration {
        let each = self.remaining / self.entries.len().max(1) as u64;
        self.spread(each, self.measured.unwrap_or(self.assumed)).max(LEAST_RETRY)
    }

    fn spread(&self, work: u64, rate: f64) -> Duration {
        let seconds = work as f64 * rate / self.slots.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests;
