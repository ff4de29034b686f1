//! The places of all queues together: how many requests may wait for each model.
//!
//! The bound is one for the server, as it is there for its memory. A model may have so many waiting as it leaves free, three times over,
//! as a client may in one queue (`scheduler::bounds`): one that is flooded stops at three quarters, and there is always room for
//! requests for another. How long requests may wait is each model's own matter, since its denoisers are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many times what is left free a model may have waiting.
const SHARE: usize = 3;

/// One queue's part.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<All>,
    queue: usize,
}

#[derive(Debug)]
struct All {
    limit: usize,
    /// Requests that wait, by queue.
    waiting: Mutex<Vec<usize>>,
}

impl Places {
    /// A part for each of so many queues.
    pub(crate) fn parted(limit: usize, queues: usize) -> impl Iterator<Item = Self> {
        let all = Arc::new(All { limit, waiting: Mutex::new(vec![0; queues]) });
        (0..queues).map(move |queue| Self { all: Arc::clone(&all), queue })
    }

    /// Of all queues.
    pub(crate) fn limit(&self) -> usize {
        self.all.limit
    }

    /// Lets somebody in or not: `push` is told how many may wait in this queue, and says how many do then. Nobody comes into another
    /// queue meanwhile, so that the limit holds.
    pub(crate) fn enter<T>(&self, push: impl FnOnce(usize) -> (usize, T)) -> T {
        let mut waiting = self.waiting();
        let others = waiting.iter().enumerate().filter(|(queue, _)| *queue != self.queue);
        let others: usize = others.map(|(_, count)| count).sum();
        let left = self.all.limit.saturating_sub(others);
        let most = match waiting.len() {
            1 => left,
            _ => (SHARE * left / (SHARE + 1)).max(1).min(left),
        };
        let (count, outcome) = push(most);
        waiting[self.queue] = count;
        outcome
    }

    /// So many wait in this queue now.
    pub(crate) fn count(&self, count: usize) {
        self.waiting()[self.queue] = count;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<usize>> {
        self.all.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parted(limit: usize, queues: usize) -> Vec<Places> {
        Places::parted(limit, queues).collect()
    }

    /// Somebody comes to a queue in which `count` wait. Says whether there was room.
    fn come(places: &Places, count: &mut usize) -> bool {
        places.enter(|most| {
            let room = *count < most;
            *count += usize::from(room);
            (*count, room)
        })
    }

    fn fill(places: &Places, count: &mut usize) -> usize {
        while come(places, count) {}
        *count
    }

    #[test]
    fn one_queue_has_all_places() {
        assert_eq!(fill(&parted(100, 1)[0], &mut 0), 100);
    }

    #[test]
    fn a_flooded_one_leaves_room_for_the_others() {
        let queues = parted(100, 3);
        let mut counts = [0; 3];
        assert_eq!([0, 1, 2].map(|at| fill(&queues[at], &mut counts[at])), [75, 18, 5]);
        // As the first one empties, the others may have more.
        (counts[0], counts[1]) = (25, 18);
        queues[0].count(25);
        assert_eq!(fill(&queues[1], &mut counts[1]), 52);
    }

    #[test]
    fn few_places_are_still_places_for_whoever_comes_first() {
        let queues = parted(1, 2);
        let (mut first, mut second) = (0, 0);
        assert!(come(&queues[1], &mut second) && !come(&queues[0], &mut first));
        queues[1].count(0);
        assert!(come(&queues[0], &mut first));
    }

    proptest! {
        #[test]
        fn the_limit_holds_for_all_together(limit in 1usize..50, turns in prop::collection::vec((0usize..4, any::<bool>()), 1..300)) {
            let (queues, mut counts) = (parted(limit, 4), [0usize; 4]);
            for (at, comes) in turns {
                if comes {
                    let empty = counts[at] == 0;
                    let all: usize = counts.iter().sum();
                    let came = come(&queues[at], &mut counts[at]);
                    // The first one of a model has a place while any is free.
                    prop_assert!(came || !empty || all == limit);
                } else {
                    counts[at] = counts[at].saturating_sub(1);
                    queues[at].count(counts[at]);
                }
                prop_assert!(counts.iter().sum::<usize>() <= limit);
            }
        }
    }
}
