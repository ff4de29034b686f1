//! Which requests run, and which of them the next evaluation serves. A plain struct: no tasks, no clock.
//!
//! Running requests hold a slot each. One evaluation of the model serves one *group*, the requests with latents of one
//! size; groups take turns, so with `g` sizes running every request is served at least every `g`-th evaluation. Slots are
//! taken and given back between any two evaluations: a request never waits for its companions.

use std::collections::VecDeque;

/// Height and width of latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LatentSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// What one request asks of every evaluation that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Requests of one size share an evaluation.
    pub size: LatentSize,
    /// Rows of the model's batch: 1 without guidance, 2 with it.
    pub rows: usize,
}

/// How much may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Requests (pictures) that hold a slot.
    pub pictures: usize,
    /// Rows of the model's batch over all of them.
    pub rows: usize,
}

impl Budget {
    /// A budget in pictures alone: all of them may be guided.
    pub fn pictures(pictures: usize) -> Self {
        Self { pictures, rows: pictures.saturating_mul(2) }
    }
}

/// Names a slot. Never used again after its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u64);

/// The running set.
#[derive(Debug)]
pub struct Slots {
    budget: Budget,
    /// In order of admission.
    occupied: Vec<(SlotId, Shape)>,
    /// The sizes that run; the front one is served next.
    turns: VecDeque<LatentSize>,
    next_id: u64,
}

impl Slots {
    /// No slot taken.
    pub fn new(budget: Budget) -> Self {
        Self { budget, occupied: Vec::new(), turns: VecDeque::new(), next_id: 0 }
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

    /// Whether such a request may join now. An empty batch takes any request, or it would never run.
    pub fn fits(&self, shape: Shape) -> bool {
        let rows: usize = self.occupied.iter().map(|(_, shape)| shape.rows).sum();
        self.is_empty() || (self.len() < self.budget.pictures && rows + shape.rows <= self.budget.rows)
    }

    /// Gives a request a slot. Its size joins at the end of the turns if it is new.
    pub fn occupy(&mut self, shape: Shape) -> SlotId {
        let id = SlotId(self.next_id);
        self.next_id += 1;
        self.occupied.push((id, shape));
        if !self.turns.contains(&shape.size) {
            self.turns.push_back(shape.size);
        }
        id
    }

    /// Takes a slot back. Its size leaves the turns with its last request.
    pub fn release(&mut self, id: SlotId) {
        let Some(index) = self.occupied.iter().position(|(slot, _)| *slot == id) else { return };
        let (_, Shape { size, .. }) = self.occupied.remove(index);
        if !self.occupied.iter().any(|(_, shape)| shape.size == size) {
            self.turns.retain(|turn| *turn != size);
        }
    }

    /// The next evaluation: a size and its requests in order of admission. The size goes to the end of the turns.
    pub fn next_batch(&mut self) -> Option<(LatentSize, Vec<SlotId>)> {
        let size = self.turns.pop_front()?;
        self.turns.push_back(size);
        let members = self.occupied.iter().filter(|(_, shape)| shape.size == size).map(|(id, _)| *id).collect();
        Some((size, members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(side: usize, rows: usize) -> Shape {
        Shape { size: LatentSize { height: side, width: side }, rows }
    }

    #[test]
    fn rows_and_pictures_bound_the_batch() {
        let mut slots = Slots::new(Budget { pictures: 3, rows: 4 });
        slots.occupy(shape(8, 2));
        slots.occupy(shape(8, 1));
        assert!(!slots.fits(shape(8, 2)), "five rows do not fit");
        assert!(slots.fits(shape(8, 1)));
        slots.occupy(shape(8, 1));
        assert!(!slots.fits(shape(8, 1)), "four pictures do not fit");
    }

    #[test]
    fn a_request_larger_than_the_budget_runs_alone() {
        let mut slots = Slots::new(Budget { pictures: 1, rows: 1 });
        assert!(slots.fits(shape(8, 2)));
        slots.occupy(shape(8, 2));
        assert!(!slots.fits(shape(8, 1)));
    }

    #[test]
    fn sizes_take_turns() {
        let mut slots = Slots::new(Budget::pictures(8));
        let a = slots.occupy(shape(8, 2));
        let b = slots.occupy(shape(16, 2));
        let c = slots.occupy(shape(8, 1));
        let mut served = || slots.next_batch().unwrap().1;
        assert_eq!([served(), served(), served()], [vec![a, c], vec![b], vec![a, c]]);
        slots.release(b);
        assert_eq!(slots.groups(), 1);
        assert_eq!(slots.next_batch().unwrap().1, [a, c]);
    }

    #[derive(Debug, Clone)]
    enum Move {
        Arrive { side: usize, rows: usize },
        Leave { which: usize },
        Evaluate,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (1usize..5, 1usize..3).prop_map(|(side, rows)| Move::Arrive { side, rows }),
            (0usize..16).prop_map(|which| Move::Leave { which }),
            Just(Move::Evaluate),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        #[test]
        fn no_request_is_passed_over_for_longer_than_there_are_sizes(
            moves in moves(), pictures in 1usize..6, rows in 1usize..10,
        ) {
            let budget = Budget { pictures, rows };
            let mut slots = Slots::new(budget);
            // Evaluations since a request was last served, and the most groups that ran in that time.
            let mut running: Vec<(SlotId, Shape, usize, usize)> = Vec::new();
            for step in moves {
                match step {
                    Move::Arrive { side, rows } => {
                        let shape = shape(side, rows);
                        if slots.fits(shape) {
                            running.push((slots.occupy(shape), shape, 0, 0));
                        }
                    }
                    Move::Leave { which } => {
                        if !running.is_empty() {
                            slots.release(running.remove(which % running.len()).0);
                        }
                    }
                    Move::Evaluate => {
                        let groups = slots.groups();
                        let Some((size, members)) = slots.next_batch() else {
                            prop_assert!(running.is_empty());
                            continue;
                        };
                        for (id, shape, waited, most) in &mut running {
                            prop_assert_eq!(members.contains(id), shape.size == size);
                            *most = groups.max(*most);
                            *waited += 1;
                            prop_assert!(*waited <= *most);
                            if members.contains(id) {
                                (*waited, *most) = (0, 0);
                            }
                        }
                    }
                }
                prop_assert_eq!(slots.len(), running.len());
                let used: usize = running.iter().map(|(_, shape, ..)| shape.rows).sum();
                prop_assert!(running.len() <= 1 || (running.len() <= pictures && used <= rows));
            }
        }
    }
}
