//! When a denoiser that says nothing is taken for hung: a pure decision over the signs of life that there are.
//!
//! A worker that is merely slow looks like one that hangs, so silence alone is not enough until the longest limit: either
//! the worker has not answered looks for as long, or its load reports have told of the same work for as long. While
//! the work waits for its turn there, only those two count.

use std::time::Duration;

/// Looks are not closer together than this, whatever the limits are.
const SOONEST: Duration = Duration::from_millis(10);

/// How long silence is borne.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Patience {
    /// Times what an evaluation takes.
    pub(crate) evaluations: f64,
    /// Never less than this.
    pub(crate) least: Duration,
    /// Never more than this.
    pub(crate) most: Duration,
}

/// What there is to go by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Signs {
    /// Since the last event, or since the call.
    pub(super) silent: Duration,
    /// Since the worker last answered a look.
    pub(super) unseen: Duration,
    /// How long its reports have said the same; `None` when it gives none.
    pub(super) unchanged: Option<Duration>,
    /// The work's own evaluations have begun.
    pub(super) begun: bool,
    /// The worker drains: it can be neither looked at nor asked.
    pub(super) draining: bool,
}

impl Patience {
    /// The limit for a worker and a picture of which an evaluation takes `seconds`, as far as known.
    pub(super) fn limit(&self, seconds: Option<f64>) -> Duration {
        let Some(seconds) = seconds else { return self.most };
        Duration::try_from_secs_f64(seconds * self.evaluations).unwrap_or(self.most).max(self.least).min(self.most)
    }

    pub(super) fn is_hung(&self, limit: Duration, signs: &Signs) -> bool {
        self.hung_in(limit, signs).is_zero()
    }

    /// How long it takes until this is a hang, if no sign of life comes meanwhile; zero when it is one.
    pub(super) fn hung_in(&self, limit: Duration, signs: &Signs) -> Duration {
        let said_nothing_new = signs.unseen.max(signs.unchanged.unwrap_or_default());
        let told = (!signs.draining).then(|| limit.saturating_sub(said_nothing_new));
        let must_be_heard = signs.begun || signs.draining || signs.unchanged.is_none();
        let unheard = must_be_heard.then(|| self.most.saturating_sub(signs.silent));
        let soonest = told.into_iter().chain(unheard).min().unwrap_or(self.most);
        limit.saturating_sub(signs.silent).max(soonest)
    }

    /// When to look again: signs change and limits with them, so it is not put off for longer than the least limit.
    pub(super) fn look_in(&self, limit: Duration, signs: &Signs) -> Duration {
        self.hung_in(limit, signs).min(self.least.max(SOONEST))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const PATIENCE: Patience = Patience { evaluations: 10.0, least: seconds(5), most: seconds(300) };

    fn alive() -> Signs {
        Signs { silent: seconds(0), unseen: seconds(1), unchanged: Some(seconds(1)), begun: true, draining: false }
    }

    #[test]
    fn the_limit_follows_the_evaluations_between_its_bounds() {
        assert_eq!(PATIENCE.limit(Some(0.005)), seconds(5));
        assert_eq!(PATIENCE.limit(Some(6.0)), seconds(60));
        assert_eq!(PATIENCE.limit(Some(1e300)), seconds(300));
        assert_eq!(PATIENCE.limit(None), seconds(300));
    }

    #[test]
    fn a_frozen_worker_and_a_stuck_model_are_found_a_busy_one_is_left_alone() {
        let hung = |signs| PATIENCE.is_hung(seconds(60), &signs);
        assert!(!hung(Signs { silent: seconds(59), unseen: seconds(100), ..alive() }));
        assert!(hung(Signs { silent: seconds(60), unseen: seconds(60), ..alive() }));
        assert!(hung(Signs { silent: seconds(60), unchanged: Some(seconds(60)), ..alive() }));
        // It answers, and its work goes on: another size's turn, perhaps.
        assert!(!hung(Signs { silent: seconds(200), ..alive() }));
        assert!(hung(Signs { silent: seconds(300), ..alive() }));
    }

    #[test]
    fn waiting_for_a_turn_is_no_hang_while_the_worker_works() {
        let hung = |signs| PATIENCE.is_hung(seconds(60), &signs);
        let waiting = Signs { begun: false, silent: seconds(9000), ..alive() };
        assert!(!hung(waiting));
        assert!(hung(Signs { unseen: seconds(60), ..waiting }));
        assert!(hung(Signs { unchanged: Some(seconds(60)), ..waiting }));
        assert!(hung(Signs { unchanged: None, ..waiting }));
    }

    #[test]
    fn a_worker_that_drains_cannot_be_asked() {
        let draining = Signs {
            draining: true,
            unseen: seconds(200),
            unchanged: Some(seconds(200)),
            silent: seconds(200),
            ..alive()
        };
        assert!(!PATIENCE.is_hung(seconds(60), &draining));
        assert!(PATIENCE.is_hung(seconds(60), &Signs { silent: seconds(300), ..draining }));
    }

    proptest! {
        /// Nobody who sleeps until then misses the moment, or wakes in vain while nothing comes.
        #[test]
        fn a_hang_is_one_when_it_was_foretold_and_not_before(
            [silent, unseen, same] in prop::array::uniform3(0u64..400),
            reports in any::<bool>(),
            begun in any::<bool>(),
            draining in any::<bool>(),
            limit in 5u64..300,
        ) {
            let after = |passed: Duration| Signs {
                silent: seconds(silent) + passed,
                unseen: seconds(unseen) + passed,
                unchanged: reports.then(|| seconds(same) + passed),
                begun,
                draining,
            };
            let limit = seconds(limit);
            let hung_in = PATIENCE.hung_in(limit, &after(Duration::ZERO));
            prop_assert!(PATIENCE.is_hung(limit, &after(hung_in)));
            for share in [0.0, 0.5, 0.999] {
                let before = hung_in.mul_f64(share);
                prop_assert_eq!(PATIENCE.is_hung(limit, &after(before)), before == hung_in);
            }
        }
    }
}
