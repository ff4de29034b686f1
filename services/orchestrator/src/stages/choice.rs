//! Who gets the next piece of work: a pure decision over what is known of each worker.

/// One worker that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Seconds of work before it, as it reported them and as we have sent since; in a stage that reports none, calls.
    pub(super) backlog: f64,
    /// Calls of ours that run there.
    pub(super) outstanding: usize,
    /// When it was last chosen; a larger number is later.
    pub(super) last_chosen: u64,
    /// It has failed the piece of work before: it comes after all that have not.
    pub(super) failed_before: bool,
    /// It has as many calls of ours as it has places: it comes after all that have room.
    pub(super) full: bool,
}

/// Whoever has room and the least work before it. Of equals, the one with fewer calls, then the one whose turn is longest ago.
pub(super) fn choose<T>(candidates: impl IntoIterator<Item = (T, Candidate)>) -> Option<T> {
    let order = |(_, left): &(T, Candidate), (_, right): &(T, Candidate)| {
        left.failed_before
            .cmp(&right.failed_before)
            .then(left.full.cmp(&right.full))
            .then(left.backlog.total_cmp(&right.backlog))
            .then(left.outstanding.cmp(&right.outstanding))
            .then(left.last_chosen.cmp(&right.last_chosen))
    };
    candidates.into_iter().min_by(order).map(|(chosen, _)| chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(candidates: &[Candidate]) -> Option<usize> {
        choose(candidates.iter().copied().enumerate())
    }

    fn idle() -> Candidate {
        Candidate { backlog: 0.0, outstanding: 0, last_chosen: 0, failed_before: false, full: false }
    }

    #[test]
    fn the_least_work_goes_before_the_fewest_calls() {
        let one_long = Candidate { backlog: 9.0, outstanding: 1, ..idle() };
        let three_short = Candidate { backlog: 2.0, outstanding: 3, ..idle() };
        assert_eq!(chosen(&[one_long, three_short]), Some(1));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn who_failed_it_before_is_the_last_resort() {
        let failed = Candidate { failed_before: true, ..idle() };
        let busy = Candidate { backlog: 60.0, ..idle() };
        assert_eq!(chosen(&[failed, busy]), Some(1));
        assert_eq!(chosen(&[failed]), Some(0));
    }

    #[test]
    fn equals_take_turns() {
        let mut workers = [idle(); 3];
        let mut turns = Vec::new();
        for turn in 1..=6 {
            let chosen = chosen(&workers).unwrap();
            workers[chosen].last_chosen = turn;
            turns.push(chosen);
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn nobody_better_is_passed_over(
            candidates in prop::collection::vec((0.0..100.0f64, 0usize..4, 0u64..9, any::<bool>(), any::<bool>()), 1..20)
        ) {
            let candidates: Vec<Candidate> = candidates
                .into_iter()
                .map(|(backlog, outstanding, last_chosen, failed_before, full)| {
                    Candidate { backlog, outstanding, last_chosen, failed_before, full }
                })
                .collect();
            let chosen = candidates[chosen(&candidates).unwrap()];
            for other in &candidates {
                let [mine, its] = [chosen, *other].map(|one| (one.failed_before, one.full));
                prop_assert!(mine <= its);
                prop_assert!(mine != its || chosen.backlog <= other.backlog);
            }
        }
    }
}
