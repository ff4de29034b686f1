//! Admission and turns together, whatever arrives: nobody waits forever, and nothing holds more than the budget.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use crate::slots::{Budget, Cost, LatentSize, SlotId, Slots};
use crate::turns::MOST_PASSED;
use crate::waiting::{Abandon, MOST_OVERTAKEN, Waiting};

#[derive(Debug, Clone)]
struct Request {
    id: usize,
    cost: Cost,
    evaluations: usize,
}

impl Abandon for Request {
    fn is_abandoned(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Running {
    id: usize,
    cost: Cost,
    evaluations: usize,
    /// Turns since it was served, and the most sizes that ran in that time.
    waited: usize,
    groups: usize,
}

/// The policy as the batch drives it, without a model.
struct Serving {
    line: Waiting<Request>,
    slots: Slots,
    running: BTreeMap<SlotId, Running>,
    budget: Budget,
    /// Requests that waited, by id, with how many younger ones were let in before them.
    passed: BTreeMap<usize, usize>,
}

impl Serving {
    fn new(budget: Budget) -> Self {
        let (line, slots) = (Waiting::new(1000), Slots::new(budget));
        Self { line, slots, running: BTreeMap::new(), budget, passed: BTreeMap::new() }
    }

    fn arrive(&mut self, request: Request) {
        self.passed.insert(request.id, 0);
        self.line.push(request, None, Instant::now()).unwrap();
    }

    fn leave(&mut self, which: usize) {
        if let Some(id) = self.running.keys().nth(which % self.running.len().max(1)).copied() {
            self.running.remove(&id);
            self.slots.release(id);
        }
    }

    fn turn(&mut self) -> Result<(), TestCaseError> {
        while let Some(entry) = self.line.pop_fitting(|request| self.slots.fits(&request.cost)) {
            let Request { id, cost, evaluations } = entry.item;
            self.passed.remove(&id);
            for (_, passed) in self.passed.range_mut(..id) {
                *passed += 1;
                prop_assert!(*passed <= MOST_OVERTAKEN, "overtaken too often");
            }
            let running = Running { id, cost, evaluations, waited: 0, groups: 0 };
            self.running.insert(self.slots.occupy(cost), running);
        }
        let used = self.slots.used();
        let within = used.pixels <= self.budget.pixels
            && used.bytes <= self.budget.bytes
            && self.running.len() <= self.budget.pictures;
        prop_assert!(within || self.running.len() == 1, "only one that runs alone may exceed the budget");
        prop_assert_eq!(self.slots.len(), self.running.len());
        let groups = self.slots.groups();
        let Some((size, served)) = self.slots.next_batch() else {
            prop_assert!(self.running.is_empty() && self.line.is_empty(), "work waits and nothing runs");
            return Ok(());
        };
        for (id, running) in &mut self.running {
            prop_assert_eq!(served.contains(id), running.cost.size == size, "a size is served as a whole");
            running.groups = running.groups.max(groups);
            running.waited += 1;
            prop_assert!(running.waited <= MOST_PASSED + running.groups, "passed over too often");
            if served.contains(id) {
                (running.waited, running.groups) = (0, 0);
                running.evaluations -= 1;
            }
        }
        let finished: Vec<_> =
            self.running.iter().filter(|(_, running)| running.evaluations == 0).map(|(id, _)| *id).collect();
        for id in finished {
            self.running.remove(&id);
            self.slots.release(id);
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Move {
    Arrive { side: usize, rows: usize, bytes: usize, evaluations: usize },
    Leave { which: usize },
    Turn,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        2 => (1usize..9, 1usize..3, 0usize..50, 1usize..12)
            .prop_map(|(side, rows, bytes, evaluations)| Move::Arrive { side, rows, bytes, evaluations }),
        1 => (0usize..16).prop_map(|which| Move::Leave { which }),
        4 => Just(Move::Turn),
    ];
    proptest::collection::vec(one, 0..300)
}

fn request(id: usize, side: usize, rows: usize, bytes: usize, evaluations: usize) -> Request {
    Request { id, cost: Cost { size: LatentSize { height: side, width: side }, rows, bytes }, evaluations }
}

proptest! {
    #[test]
    fn nobody_starves_and_the_budget_holds(
        moves in moves(), pictures in 1usize..9, pixels in 1usize..400, bytes in 1usize..200,
    ) {
        let mut serving = Serving::new(Budget { pictures, pixels, bytes });
        for (id, step) in moves.into_iter().enumerate() {
            match step {
                Move::Arrive { side, rows, bytes, evaluations } => {
                    serving.arrive(request(id, side, rows, bytes, evaluations));
                }
                Move::Leave { which } => serving.leave(which),
                Move::Turn => serving.turn()?,
            }
        }
        // What is left gets done when nothing more comes.
        let most: usize = serving.running.values().map(|running| running.evaluations).sum::<usize>()
            + serving.line.iter().map(|request| request.evaluations).sum::<usize>();
        for _ in 0..=most {
            serving.turn()?;
        }
        prop_assert!(serving.running.is_empty() && serving.line.is_empty());
    }

    #[test]
    fn a_large_request_gets_in_under_a_stream_of_small_ones(evaluations in 1usize..9, each in 1usize..4) {
        let mut serving = Serving::new(Budget { pictures: 100, pixels: 64, bytes: usize::MAX });
        for id in 0..4 {
            serving.arrive(request(id, 4, 1, 0, evaluations));
        }
        serving.turn()?;
        let large = 4;
        serving.arrive(request(large, 8, 2, 0, 1));
        let mut turns = 0;
        while serving.passed.contains_key(&large) {
            for i in 0..each {
                serving.arrive(request(5 + turns * each + i, 4, 1, 0, evaluations));
            }
            serving.turn()?;
            turns += 1;
            prop_assert!(turns <= (MOST_OVERTAKEN + 1) * evaluations, "it still waits");
        }
        prop_assert!(serving.running.values().all(|running| running.id == large));
    }
}
