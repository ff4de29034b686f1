//! The order played forward: where each waiting request stands and when it will start, if nobody else comes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::refusal::{Late, Refusal};
use super::work::duration;
use super::{Entry, Scheduler, Ticket, Work};
use crate::clients::Client;

/// Of the least that the rest of a request takes, this part must fit before its deadline for it to have a chance at all: step
/// times are measured ones, and the next may be shorter.
const CERTAIN: f64 = 0.8;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Requests that start before it.
    pub(crate) position: usize,
    /// Until it starts; `None` where nothing was measured, or no denoiser is there.
    pub(crate) estimated: Option<Duration>,
}

/// A copy of what matters, so that playing holds up nobody.
#[derive(Debug)]
pub(crate) struct Forecast {
    capacity: u64,
    measured: bool,
    /// When pictures that run are done, in seconds, and what they take of the capacity.
    running: Vec<(f64, u64)>,
    /// By class, from the highest.
    classes: Vec<Vec<Line>>,
}

/// A client's requests of one class.
#[derive(Debug)]
struct Line {
    given: u128,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    started: bool,
    images: u32,
    /// Of each picture: what it adds to the client's account, what it takes of the capacity, seconds that it takes.
    charge: u128,
    room: u64,
    seconds: f64,
}

/// A moment that can be ordered.
#[derive(Debug, PartialEq, PartialOrd)]
struct Moment(f64);

impl Eq for Moment {}

#[expect(clippy::derive_ord_xor_partial_ord, reason = "moments are finite")]
impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Forecast {
    /// All that wait for their first slot, in the order in which they will get it.
    pub(crate) fn standings(self) -> Vec<(Ticket, Standing)> {
        let Self { capacity, measured, running, classes } = self;
        let known = measured && capacity > 0;
        let mut used: u64 = running.iter().map(|(_, room)| room).sum();
        let mut ends: BinaryHeap<_> = running.into_iter().map(|(at, room)| Reverse((Moment(at), room))).collect();
        let (mut now, mut standings) = (0.0, Vec::new());
        for mut lines in classes {
            let mut turns: BinaryHeap<_> =
                lines.iter().enumerate().map(|(index, line)| Reverse((line.given, index))).collect();
            while let Some(Reverse((given, index))) = turns.pop() {
                let line = &mut lines[index];
                let Some(next) = line.waiting.front_mut() else { continue };
                while used > 0 && used + next.room > capacity {
                    let Some(Reverse((Moment(at), room))) = ends.pop() else { break };
                    (now, used) = (f64::max(now, at), used - room);
                }
                if !next.started {
                    next.started = true;
                    let estimated = known.then(|| duration(now));
                    standings.push((next.ticket, Standing { position: standings.len(), estimated }));
                }
                ends.push(Reverse((Moment(now + next.seconds), next.room)));
                used += next.room;
                let given = given + next.charge;
                next.images -= 1;
                if next.images == 0 {
                    line.waiting.pop_front();
                }
                turns.push(Reverse((given, index)));
            }
        }
        standings
    }
}

impl Scheduler {
    /// What [`Forecast::standings`] needs.
    pub(crate) fn forecast(&self) -> Forecast {
        let speed = &self.speed;
        let full = speed.capacity();
        let running = self.running.values();
        let running = running.map(|one| (speed.expected(one.pixels, one.evaluations_left, full), one.room)).collect();
        let waiter = |charge: u128, ticket, entry: &Entry| Waiter {
            ticket,
            started: entry.started,
            images: entry.images_waiting,
            charge,
            room: speed.room(entry.work.pixels),
            seconds: speed.expected(entry.work.pixels, entry.work.evaluations, full),
        };
        let classes = self.order.classes().map(|(class, shares)| {
            let line = |share: &super::order::Share| {
                let tickets = share.of_class(class).filter_map(|ticket| Some((ticket, self.entries.get(&ticket)?)));
                let waiting =
                    tickets.map(|(ticket, entry)| waiter(share.charge(entry.work.picture()), ticket, entry)).collect();
                Line { given: share.given(), waiting }
            };
            shares.into_iter().map(line).collect()
        });
        Forecast { capacity: full, measured: speed.is_measured(), running, classes: classes.collect() }
    }

    /// Whether a request that comes now would meet its deadline, as far as is known.
    pub(super) fn in_time(
        &self,
        client: &Client,
        work: Work,
        besides: Duration,
        at_once: bool,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), Refusal> {
        if !self.speed.is_measured() || self.speed.capacity() == 0 {
            return Ok(());
        }
        let wait = if at_once { 0.0 } else { self.wait(client, work, now) };
        let all = self.speed.room(work.pixels).saturating_mul(work.images.into());
        let used = self.used.saturating_add(all).min(self.speed.capacity());
        let one = self.speed.expected(work.pixels, work.evaluations, used);
        let each_after_another = work.total() as f64 / self.speed.throughput();
        let late = Late {
            left: deadline.saturating_duration_since(now),
            wait: duration(wait),
            work: duration(one.max(each_after_another)).saturating_add(besides),
        };
        if late.earliest() > late.left { Err(Refusal::Late(late)) } else { Ok(()) }
    }

    /// Seconds until a request that comes now would start: until the next slot is free, and as long as the fleet needs for what
    /// goes before it.
    fn wait(&self, client: &Client, work: Work, now: Instant) -> f64 {
        let waiting = |ticket: Ticket| self.entries.get(&ticket).map_or(0, Entry::waiting_work);
        let rank = self.rank(now, work.total(), work);
        let mut ahead = 0u64;
        for (class, shares) in self.order.classes().take_while(|(class, _)| *class >= work.priority) {
            let all = |share: &super::order::Share| share.of_class(class).map(waiting).sum::<u64>();
            if class > work.priority {
                ahead += shares.into_iter().map(all).sum::<u64>();
                continue;
            }
            let before = |ticket: &Ticket| self.entries.get(ticket).is_some_and(|entry| entry.seat.rank <= rank);
            let own = self.order.share(&client.identity);
            let own_before: u64 = own.map_or(0, |share| share.of_class(class).take_while(before).map(waiting).sum());
            // Where this client will stand when it is this request's turn: until then others are served that stand lower.
            let stand = self.order.stand(&client.identity, class) + own.map_or(0, |share| share.charge(own_before));
            let others = shares.into_iter().filter(|share| own.is_none_or(|own| !std::ptr::eq(*share, own)));
            ahead += own_before + others.map(|share| share.until(stand).min(all(share))).sum::<u64>();
        }
        let left = |one: &super::Running| self.speed.expected(one.pixels, one.evaluations_left, self.used);
        let next_free = self.running.values().map(left).fold(f64::INFINITY, f64::min);
        let next_free = if self.fits(work.pixels) || !next_free.is_finite() { 0.0 } else { next_free };
        next_free + ahead as f64 / self.speed.throughput()
    }

    /// The moment after which a request that still waits has no chance to meet its deadline; `None` without one.
    pub(crate) fn latest_start(&self, ticket: Ticket) -> Option<Instant> {
        let entry = self.entries.get(&ticket)?;
        self.latest(entry, entry.work.evaluations)
    }

    /// Whether a picture that runs has no chance any more to be done by its deadline.
    pub(crate) fn is_lost(&self, slot: super::SlotId, now: Instant) -> bool {
        let Some(running) = self.running.get(&slot) else { return false };
        let Some(entry) = self.entries.get(&running.ticket) else { return false };
        self.latest(entry, running.evaluations_left).is_some_and(|latest| latest < now)
    }

    fn latest(&self, entry: &Entry, evaluations: u32) -> Option<Instant> {
        let least = self.speed.at_least(entry.work.pixels, evaluations).unwrap_or(0.0);
        entry.deadline?.checked_sub(duration(CERTAIN * (least + entry.besides.as_secs_f64())))
    }
}

/// The latest standing of each request, told to whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Standings(HashMap<Ticket, Standing>);

impl Standings {
    pub(crate) fn replace(&mut self, standings: Vec<(Ticket, Standing)>) {
        self.0 = standings.into_iter().collect();
    }

    pub(crate) fn of(&self, ticket: Ticket) -> Option<Standing> {
        self.0.get(&ticket).copied()
    }
}
