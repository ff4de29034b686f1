//! The bounded waiting line, with a deadline for each entry. A plain struct; `now` is an argument.
//!
//! Work leaves in the order in which it came, or, where not all of it fits at once, nearly so: what fits may pass what does
//! not, but nothing is passed more than [`MOST_OVERTAKEN`] times. After that it is next, and whatever it waits for gets done
//! meanwhile, as nothing new comes in.

use std::collections::VecDeque;
use std::time::Instant;

/// How often an entry is passed by younger ones at most.
pub const MOST_OVERTAKEN: usize = 8;

/// Work that can lose the one who asked for it.
pub trait Abandon {
    /// Whether nobody waits for the result any more.
    fn is_abandoned(&self) -> bool;
}

/// One entry of the line.
#[derive(Debug)]
pub struct Entry<T> {
    /// The work.
    pub item: T,
    /// When it entered the line.
    pub since: Instant,
    /// When its result is of no use any more.
    pub deadline: Option<Instant>,
    /// How often younger work has passed it.
    pub overtaken: usize,
}

/// The line itself.
#[derive(Debug)]
pub struct Waiting<T> {
    limit: usize,
    entries: VecDeque<Entry<T>>,
}

impl<T: Abandon> Waiting<T> {
    /// An empty line with `limit` places, at least one.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), entries: VecDeque::new() }
    }

    /// Places in all.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Places taken.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The work in line, first to leave first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.item)
    }

    /// Puts work at the end of the line. The places of abandoned work count as free; expired work keeps its place until
    /// [`Waiting::take_expired`], so that somebody tells its owner.
    ///
    /// # Errors
    /// Gives the work back when every place is taken.
    pub fn push(&mut self, item: T, deadline: Option<Instant>, now: Instant) -> Result<(), T> {
        if self.entries.len() >= self.limit {
            self.drop_abandoned();
        }
        if self.entries.len() >= self.limit {
            return Err(item);
        }
        self.entries.push_back(Entry { item, since: now, deadline, overtaken: 0 });
        Ok(())
    }

    /// Takes the first entry out of the line.
    pub fn pop(&mut self) -> Option<Entry<T>> {
        self.entries.pop_front()
    }

    /// Takes out the first entry that `fits`, passing those that do not for as long as they can be passed.
    pub fn pop_fitting(&mut self, mut fits: impl FnMut(&T) -> bool) -> Option<Entry<T>> {
        let mut passing = true;
        let index = self.entries.iter().position(|entry| {
            let taken = passing && fits(&entry.item);
            passing &= entry.overtaken < MOST_OVERTAKEN;
            taken
        })?;
        for passed in self.entries.iter_mut().take(index) {
            passed.overtaken += 1;
        }
        self.entries.remove(index)
    }

    /// Takes out what nobody waits for any more; returns how many entries that were.
    pub fn drop_abandoned(&mut self) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.item.is_abandoned());
        before - self.entries.len()
    }

    /// Takes out every entry whose deadline is at or before `now`, in order.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Entry<T>> {
        let is_expired = |entry: &Entry<T>| entry.deadline.is_some_and(|deadline| deadline <= now);
        if !self.entries.iter().any(is_expired) {
            return Vec::new();
        }
        let (expired, kept) = self.entries.drain(..).partition::<Vec<_>, _>(is_expired);
        self.entries = kept.into();
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Job {
        id: usize,
        abandoned: bool,
    }

    impl Abandon for Job {
        fn is_abandoned(&self) -> bool {
            self.abandoned
        }
    }

    fn job(id: usize) -> Job {
        Job { id, abandoned: false }
    }

    #[test]
    fn the_line_is_bounded_and_abandoned_work_gives_its_place_back() {
        let now = Instant::now();
        let mut line = Waiting::new(2);
        line.push(job(0), None, now).unwrap();
        line.push(Job { id: 1, abandoned: true }, None, now).unwrap();
        line.push(job(2), None, now).unwrap();
        assert_eq!(line.push(job(3), None, now), Err(job(3)));
        let left: Vec<_> = std::iter::from_fn(|| line.pop()).map(|entry| entry.item.id).collect();
        assert_eq!(left, [0, 2]);
    }

    #[test]
    fn expired_work_is_taken_out_in_order_and_the_rest_keeps_its_order() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut line = Waiting::new(8);
        for (id, deadline) in [(0, Some(at(5))), (1, Some(at(1))), (2, None), (3, Some(at(2)))] {
            line.push(job(id), deadline, now).unwrap();
        }
        let ids = |entries: Vec<Entry<Job>>| entries.into_iter().map(|entry| entry.item.id).collect::<Vec<_>>();
        assert_eq!(ids(line.take_expired(now)), Vec::<usize>::new());
        assert_eq!(ids(line.take_expired(at(2))), [1, 3]);
        assert_eq!(line.iter().map(|job| job.id).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn what_fits_passes_what_does_not_but_not_forever() {
        let now = Instant::now();
        let mut line = Waiting::new(2 * MOST_OVERTAKEN);
        // The first two are large.
        for id in 0..MOST_OVERTAKEN + 4 {
            line.push(job(id), None, now).unwrap();
        }
        let small = |job: &Job| job.id > 1;
        let passing: Vec<_> = std::iter::from_fn(|| line.pop_fitting(small)).map(|entry| entry.item.id).collect();
        assert_eq!(passing, (2..MOST_OVERTAKEN + 2).collect::<Vec<_>>(), "eight pass and no more");
        assert_eq!(line.pop_fitting(|_| true).unwrap().item.id, 0);
        assert!(line.pop_fitting(small).is_none(), "the second was passed as often");
        assert_eq!(line.len(), 3);
    }

    proptest! {
        #[test]
        fn nothing_is_passed_more_often_than_allowed(sizes in proptest::collection::vec((1usize..5, 0usize..6), 1..80)) {
            let now = Instant::now();
            let mut line = Waiting::new(100);
            let mut passed = std::collections::BTreeMap::new();
            for (id, (size, free)) in sizes.iter().enumerate() {
                line.push(job(id), None, now).unwrap();
                passed.insert(id, (*size, 0));
                // As much as is free comes out; what is large waits until enough is.
                if let Some(left) = line.pop_fitting(|job| passed[&job.id].0 <= *free) {
                    passed.remove(&left.item.id);
                    for (_, times) in passed.range_mut(..left.item.id).map(|(_, value)| value) {
                        *times += 1;
                        prop_assert!(*times <= MOST_OVERTAKEN);
                    }
                }
            }
            // When all is free the order is that of arrival.
            let rest: Vec<_> = std::iter::from_fn(|| line.pop_fitting(|_| true)).map(|entry| entry.item.id).collect();
            prop_assert_eq!(rest, passed.into_keys().collect::<Vec<_>>());
        }

        #[test]
        fn work_leaves_in_the_order_it_came(limit in 1usize..9, pushes in proptest::collection::vec(any::<bool>(), 0..60)) {
            let now = Instant::now();
            let mut line = Waiting::new(limit);
            let (mut next, mut seen) = (0, Vec::new());
            for is_push in pushes {
                if is_push {
                    if line.push(job(next), None, now).is_ok() {
                        next += 1;
                    } else {
                        prop_assert_eq!(line.len(), limit);
                    }
                } else if let Some(entry) = line.pop() {
                    seen.push(entry.item.id);
                }
                prop_assert!(line.len() <= limit);
            }
            prop_assert_eq!(&seen, &(0..seen.len()).collect::<Vec<_>>());
        }
    }
}
