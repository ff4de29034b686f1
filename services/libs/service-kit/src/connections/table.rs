//! Who has a place, and who must give it up when all are taken: whoever is worth least, and rather one of many.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::origin::Origin;

/// A connection that has asked for nothing so long after its accept is worth less than any that has.
const STALE: Duration = Duration::from_secs(1);

/// Of the displaced connections, this share of the places may take its time to leave; beyond it they are cut off.
const LEAVING_SHARE: usize = 8;

/// What a connection is worth, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It never brought a request to its end.
    HalfOpen,
    /// It has, and none of its calls runs.
    Idle,
    /// A call of it runs. It is never displaced.
    Busy,
}

/// What happens to a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// There was a place.
    Free,
    /// There is one now: `victim` must go. At once, if too many are leaving already.
    Displaced { victim: u64, at_once: bool },
    /// Nobody is worth less.
    Refused,
}

#[derive(Debug)]
struct Seat {
    origin: Origin,
    standing: Standing,
    since: Instant,
}

#[derive(Debug, Default)]
struct Holder {
    held: usize,
    half_open: usize,
    /// The seats that could be taken, the worst first.
    spare: BTreeSet<(Standing, Instant, u64)>,
}

/// The places of one port. A plain struct: it knows connections by number, and time as an argument.
#[derive(Debug)]
pub(crate) struct Table {
    places: usize,
    /// Most places of one origin.
    share: usize,
    seats: HashMap<u64, Seat>,
    holders: HashMap<Origin, Holder>,
    /// The holders that have a spare seat, by the places that they hold.
    by_held: BTreeSet<(usize, Origin)>,
    /// Those with half-open seats, by their number.
    by_half_open: BTreeSet<(usize, Origin)>,
    /// Displaced, and not gone yet.
    leaving: BTreeSet<u64>,
}

impl Table {
    pub(crate) fn new(places: usize, share: usize) -> Self {
        Self {
            places,
            share: share.min(places),
            seats: HashMap::new(),
            holders: HashMap::new(),
            by_held: BTreeSet::new(),
            by_half_open: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// A connection comes in, half-open. `id` was never used before.
    pub(crate) fn enter(&mut self, id: u64, origin: Origin, now: Instant) -> Entry {
        let held = self.held(origin);
        let entry = if held >= self.share {
            self.displace(self.worst_of(origin))
        } else if self.seats.len() < self.places {
            Entry::Free
        } else {
            self.displace(self.least(origin, held, now))
        };
        if entry != Entry::Refused {
            self.sit(id, Seat { origin, standing: Standing::HalfOpen, since: now });
        }
        entry
    }

    /// Takes the place of whoever is worth least without giving it to anybody: files or memory are short.
    pub(crate) fn shed(&mut self) -> Option<u64> {
        let (_, origin) = self.by_half_open.last().or(self.by_held.last())?;
        let victim = self.worst_of(*origin)?;
        self.rise(victim);
        self.leaving.insert(victim);
        Some(victim)
    }

    /// A connection's standing has changed. One that has lost its place keeps none.
    pub(crate) fn settle(&mut self, id: u64, standing: Standing, now: Instant) {
        if let Some(seat) = self.rise(id) {
            self.sit(id, Seat { standing, since: now, ..seat });
        }
    }

    /// A connection is gone.
    pub(crate) fn leave(&mut self, id: u64) {
        self.rise(id);
        self.leaving.remove(&id);
    }

    fn held(&self, origin: Origin) -> usize {
        self.holders.get(&origin).map_or(0, |holder| holder.held)
    }

    fn worst_of(&self, origin: Origin) -> Option<u64> {
        self.holders.get(&origin)?.spare.first().map(|&(_, _, id)| id)
    }

    /// Whose place somebody of `origin`, who holds `held` already, gets when all are taken.
    fn least(&self, origin: Origin, held: usize, now: Instant) -> Option<u64> {
        // A flood is half-open connections of few origins, or of many that hold little else.
        let flood = self.by_half_open.last().filter(|(half_open, _)| *half_open > held);
        if let Some((_, flooding)) = flood {
            return self.worst_of(*flooding);
        }
        let stale = self.by_half_open.iter().rev().find_map(|(_, origin)| {
            let &(_, since, id) = self.holders.get(origin)?.spare.first()?;
            (now.saturating_duration_since(since) >= STALE).then_some(id)
        });
        // Nobody who holds less than the newcomer gives way to it.
        let richer =
            || self.by_held.last().filter(|(most, _)| *most > held).and_then(|(_, richer)| self.worst_of(*richer));
        stale.or_else(richer).or_else(|| self.worst_of(origin))
    }

    fn displace(&mut self, victim: Option<u64>) -> Entry {
        let Some(victim) = victim else {
            return Entry::Refused;
        };
        let at_once = self.leaving.len() >= (self.places / LEAVING_SHARE).max(1);
        self.rise(victim);
        self.leaving.insert(victim);
        Entry::Displaced { victim, at_once }
    }

    fn sit(&mut self, id: u64, seat: Seat) {
        self.change(seat.origin, |holder| {
            holder.held += 1;
            holder.half_open += usize::from(seat.standing == Standing::HalfOpen);
            if seat.standing != Standing::Busy {
                holder.spare.insert((seat.standing, seat.since, id));
            }
        });
        self.seats.insert(id, seat);
    }

    fn rise(&mut self, id: u64) -> Option<Seat> {
        let seat = self.seats.remove(&id)?;
        self.change(seat.origin, |holder| {
            holder.held -= 1;
            holder.half_open -= usize::from(seat.standing == Standing::HalfOpen);
            holder.spare.remove(&(seat.standing, seat.since, id));
        });
        Some(seat)
    }

    /// Keeps the two rankings in step with a holder.
    fn change(&mut self, origin: Origin, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(origin).or_default();
        self.by_held.remove(&(holder.held, origin));
        self.by_half_open.remove(&(holder.half_open, origin));
        change(holder);
        if !holder.spare.is_empty() {
            self.by_held.insert((holder.held, origin));
        }
        if holder.half_open > 0 {
            self.by_half_open.insert((holder.half_open, origin));
        }
        if holder.held == 0 {
            self.holders.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests;
