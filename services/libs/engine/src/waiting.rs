//! The bounded waiting line: first in, first out, with a deadline for each entry. A plain struct; `now` is an argument.

use std::collections::VecDeque;
use std::time::Instant;

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
        self.entries.push_back(Entry { item, since: now, deadline });
        Ok(())
    }

    /// The work that leaves next.
    pub fn front(&self) -> Option<&T> {
        self.entries.front().map(|entry| &entry.item)
    }

    /// Takes the first entry out of the line.
    pub fn pop(&mut self) -> Option<Entry<T>> {
        self.entries.pop_front()
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

    proptest! {
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
