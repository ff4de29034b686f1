//! Which size of latents the next evaluation serves. A plain struct: no tasks, no clock.
//!
//! One evaluation serves all running requests of one size. An evaluation of large latents takes as long as many of small
//! ones, so plain turns would make small pictures wait for large ones most of the time. Instead the size whose requests have
//! had the least work done for each of them comes next, work being counted in latent pixels; and a size that was passed over
//! [`MOST_PASSED`] times comes next whatever the count says, the one passed over most often first.

use crate::slots::LatentSize;

/// Turns that a size is passed over before its age decides.
pub const MOST_PASSED: usize = 8;

/// The sizes that run, and what was done for them.
#[derive(Debug, Default)]
pub struct Turns {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    size: LatentSize,
    /// Latent pixels evaluated for each of its requests, counted from where the group came in.
    work: u64,
    /// Turns since its last one.
    passed: usize,
}

impl Turns {
    /// Sizes that take turns.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no size to serve.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// A request of this size runs. A new size starts level with the one that has had least: it owes nothing for the time
    /// before it came, and has no claim on it.
    pub fn join(&mut self, size: LatentSize) {
        if !self.groups.iter().any(|group| group.size == size) {
            let work = self.groups.iter().map(|group| group.work).min().unwrap_or(0);
            self.groups.push(Group { size, work, passed: 0 });
        }
    }

    /// No request of this size runs any more.
    pub fn leave(&mut self, size: LatentSize) {
        self.groups.retain(|group| group.size != size);
    }

    /// The size that is served now.
    pub fn take(&mut self) -> Option<LatentSize> {
        let oldest = self.groups.iter().map(|group| group.passed).max()?;
        let least = self.groups.iter().map(|group| group.work).min()?;
        let is_next = |group: &Group| {
            if oldest >= MOST_PASSED { group.passed == oldest } else { group.work == least }
        };
        let index = self.groups.iter().position(is_next)?;
        for group in &mut self.groups {
            group.passed += 1;
        }
        let group = &mut self.groups[index];
        group.passed = 0;
        group.work = group.work.saturating_add(group.size.pixels() as u64);
        Some(group.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(side: usize) -> LatentSize {
        LatentSize { height: side, width: side }
    }

    /// The sides that so many turns serve.
    fn served(turns: &mut Turns, count: usize) -> Vec<usize> {
        (0..count).map(|_| turns.take().unwrap().height).collect()
    }

    #[test]
    fn each_size_gets_the_same_work_not_the_same_turns() {
        let mut turns = Turns::default();
        turns.join(size(8));
        turns.join(size(16));
        assert_eq!(served(&mut turns, 10), [8, 16, 8, 8, 8, 8, 16, 8, 8, 8]);
        turns.leave(size(8));
        assert_eq!(served(&mut turns, 2), [16, 16]);
        turns.leave(size(16));
        assert_eq!(turns.take(), None);
    }

    #[test]
    fn a_size_that_comes_late_has_no_claim_on_the_time_before() {
        let mut turns = Turns::default();
        turns.join(size(8));
        served(&mut turns, 1000);
        turns.join(size(12));
        let next = served(&mut turns, 13);
        assert_eq!(next.iter().filter(|side| **side == 8).count(), 9, "{next:?}");
    }

    #[test]
    fn a_huge_size_gets_its_turn_by_age() {
        let mut turns = Turns::default();
        turns.join(size(8));
        turns.join(size(256));
        let next = served(&mut turns, 40);
        let waits: Vec<_> = next.split(|side| *side == 256).skip(1).map(<[_]>::len).collect();
        assert!(waits[..waits.len() - 1].iter().all(|turns| *turns == MOST_PASSED), "{next:?}");
    }
}
