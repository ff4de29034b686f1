//! Which requests run, and which of them the next evaluation serves. A plain struct: no tasks, no clock.
//!
//! Running requests hold a slot each. What they hold together is bounded by a [`Budget`]: latent pixels of all rows, so that
//! an evaluation takes no longer than is worth it, and bytes. Slots are taken and given back between any two evaluations: a
//! request never waits for its companions. One evaluation serves the requests with latents of one size; see [`Turns`].

use crate::turns::Turns;

/// Height and width of latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LatentSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl LatentSize {
    /// Latent pixels of one row of the model's batch.
    pub fn pixels(self) -> usize {
        self.height.saturating_mul(self.width)
    }
}

/// What one running request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Requests of one size share an evaluation.
    pub size: LatentSize,
    /// Rows of the model's batch: 1 without guidance, 2 with it.
    pub rows: usize,
    /// Memory that it holds for as long as it runs.
    pub bytes: usize,
}

impl Cost {
    /// Latent pixels of its rows.
    pub fn pixels(&self) -> usize {
        self.size.pixels().saturating_mul(self.rows)
    }
}

/// How much may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Latent pixels of all rows of all running requests.
    pub pixels: usize,
    /// Memory that they hold.
    pub bytes: usize,
    /// Requests that hold a slot, where somebody wants to bound them by their number.
    pub pictures: usize,
}

impl Budget {
    /// So many requests, whatever their size.
    pub fn pictures(pictures: usize) -> Self {
        Self { pictures, pixels: usize::MAX, bytes: usize::MAX }
    }

    /// How many requests of this cost run together: at least one, as a request that is larger than the budget runs alone.
    pub fn holds(&self, cost: &Cost) -> usize {
        let (pixels, bytes) = (self.pixels / cost.pixels().max(1), self.bytes / cost.bytes.max(1));
        self.pictures.min(pixels).min(bytes).max(1)
    }
}

/// What running requests take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Latent pixels of their rows.
    pub pixels: usize,
    /// Memory that they hold.
    pub bytes: usize,
}

/// Names a slot. Never used again after its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u64);

/// The running set.
#[derive(Debug)]
pub struct Slots {
    budget: Budget,
    /// In order of admission.
    occupied: Vec<(SlotId, Cost)>,
    turns: Turns,
    next_id: u64,
}

impl Slots {
    /// No slot taken.
    pub fn new(budget: Budget) -> Self {
        Self { budget, occupied: Vec::new(), turns: Turns::default(), next_id: 0 }
    }

    /// Requests that run.
    pub fn len(&self) -> usize {
        self.occupied.len()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.occupied.is_empty()
    }

    /// Sizes that take turns.
    pub fn groups(&self) -> usize {
        self.turns.len()
    }

    /// What all that runs takes together.
    pub fn used(&self) -> Used {
        self.occupied.iter().fold(Used::default(), |used, (_, cost)| Used {
            pixels: used.pixels.saturating_add(cost.pixels()),
            bytes: used.bytes.saturating_add(cost.bytes),
        })
    }

    /// Whether such a request may join now. An empty batch takes any request, or it would never run.
    pub fn fits(&self, cost: &Cost) -> bool {
        let Used { pixels, bytes } = self.used();
        self.is_empty()
            || (self.len() < self.budget.pictures
                && pixels.saturating_add(cost.pixels()) <= self.budget.pixels
                && bytes.saturating_add(cost.bytes) <= self.budget.bytes)
    }

    /// Gives a request a slot.
    pub fn occupy(&mut self, cost: Cost) -> SlotId {
        let id = SlotId(self.next_id);
        self.next_id += 1;
        self.occupied.push((id, cost));
        self.turns.join(cost.size);
        id
    }

    /// Takes a slot back. Its size leaves the turns with its last request.
    pub fn release(&mut self, id: SlotId) {
        let Some(index) = self.occupied.iter().position(|(slot, _)| *slot == id) else { return };
        let (_, Cost { size, .. }) = self.occupied.remove(index);
        if !self.occupied.iter().any(|(_, cost)| cost.size == size) {
            self.turns.leave(size);
        }
    }

    /// The next evaluation: a size and its requests in order of admission.
    pub fn next_batch(&mut self) -> Option<(LatentSize, Vec<SlotId>)> {
        let size = self.turns.take()?;
        let members = self.occupied.iter().filter(|(_, cost)| cost.size == size).map(|(id, _)| *id).collect();
        Some((size, members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(side: usize, rows: usize, bytes: usize) -> Cost {
        Cost { size: LatentSize { height: side, width: side }, rows, bytes }
    }

    #[test]
    fn pixels_bytes_and_pictures_bound_the_batch() {
        let mut slots = Slots::new(Budget { pictures: 3, pixels: 4 * 64, bytes: 100 });
        slots.occupy(cost(8, 2, 10));
        slots.occupy(cost(8, 1, 10));
        assert!(!slots.fits(&cost(8, 2, 10)), "five rows do not fit");
        assert!(!slots.fits(&cost(8, 1, 81)), "101 bytes do not fit");
        assert!(slots.fits(&cost(8, 1, 80)));
        slots.occupy(cost(4, 1, 10));
        assert!(!slots.fits(&cost(4, 1, 10)), "four pictures do not fit");
        assert_eq!(slots.used(), Used { pixels: 3 * 64 + 16, bytes: 30 });
    }

    #[test]
    fn a_request_larger_than_the_budget_runs_alone() {
        let budget = Budget { pictures: 8, pixels: 64, bytes: 100 };
        let mut slots = Slots::new(budget);
        let large = cost(16, 2, 1000);
        assert!(slots.fits(&large));
        assert_eq!(budget.holds(&large), 1);
        slots.occupy(large);
        assert!(!slots.fits(&cost(1, 1, 1)));
    }

    #[test]
    fn one_evaluation_serves_one_size_in_order_of_admission() {
        let mut slots = Slots::new(Budget::pictures(8));
        let a = slots.occupy(cost(8, 2, 0));
        let b = slots.occupy(cost(16, 2, 0));
        let c = slots.occupy(cost(8, 1, 0));
        let mut served = || slots.next_batch().unwrap().1;
        assert_eq!([served(), served(), served()], [vec![a, c], vec![b], vec![a, c]]);
        slots.release(b);
        assert_eq!(slots.groups(), 1);
        assert_eq!(slots.next_batch().unwrap().1, [a, c]);
    }

    #[test]
    fn a_budget_tells_how_many_of_a_kind_it_holds() {
        let budget = Budget { pictures: 100, pixels: 10 * 64, bytes: 1000 };
        assert_eq!(budget.holds(&cost(8, 2, 10)), 5);
        assert_eq!(budget.holds(&cost(8, 2, 400)), 2);
        assert_eq!(Budget { pictures: 3, ..budget }.holds(&cost(8, 2, 10)), 3);
    }
}
