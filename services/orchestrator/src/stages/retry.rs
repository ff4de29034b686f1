//! How often work is tried again: a limit for each piece of work, and a budget for all together.
//!
//! The budget keeps a fleet that fails from being hit by its own tries: each call puts a share of a try into it, each try
//! takes a whole one out, and a little flows in with time, so that a quiet server has some. A try that starts where
//! the one before had got to repeats nothing: it is free, and the piece's own limit counts anew from there. One that was taken
//! and never begun may only have waited beside the work that killed its worker: it counts half.

use std::time::{Duration, Instant};

/// Time in which an empty budget fills by itself.
const REFILL: Duration = Duration::from_secs(60);

/// The budget of all. A plain struct that is told the time.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// Tries that a call pays for.
    share: f64,
    /// The most that is saved up.
    reserve: f64,
    tries: f64,
    filled: Instant,
}

impl RetryBudget {
    /// A full budget. `share` of the calls may be tried again, and `reserve` tries at once.
    pub(crate) fn new(share: f64, reserve: u32, now: Instant) -> Self {
        let reserve = f64::from(reserve);
        Self { share, reserve, tries: reserve, filled: now }
    }

    /// A call is made for the first time.
    pub(crate) fn called(&mut self) {
        self.tries = (self.tries + self.share).min(self.reserve);
    }

    /// Takes a try out, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let flown = now.saturating_duration_since(self.filled).as_secs_f64() / REFILL.as_secs_f64();
        self.filled = self.filled.max(now);
        self.tries = (self.tries + flown * self.reserve).min(self.reserve);
        let enough = self.tries >= 1.0;
        if enough {
            self.tries -= 1.0;
        }
        enough
    }
}

/// The tries of one piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tries {
    most: u32,
    made: u32,
    /// Since it last got further, in halves.
    in_vain: u32,
}

/// How far a try got that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    /// The next one starts further on than it did.
    Further,
    Nowhere,
    /// Its worker took it and died before it had begun.
    Queued,
}

/// What a failed try is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another one, which the budget need not pay.
    Free,
    /// Another one, if the budget has it.
    Paid,
    /// None: the limit is reached.
    Stop,
}

impl Tries {
    /// The first of `most`.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, made: 1, in_vain: 0 }
    }

    /// The try that runs has failed.
    pub(crate) fn failed(&mut self, got: Got) -> Next {
        match got {
            Got::Further => {
                self.in_vain = 0;
                self.made += 1;
                return Next::Free;
            }
            Got::Nowhere => self.in_vain += 2,
            Got::Queued => self.in_vain += 1,
        }
        if self.in_vain >= 2 * self.most {
            return Next::Stop;
        }
        self.made += 1;
        Next::Paid
    }

    /// Tries so far, the one that runs included.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_budget_is_a_share_of_the_calls_and_what_time_brings() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(0.25, 2, now);
        assert_eq!([budget.take(now), budget.take(now), budget.take(now)], [true, true, false]);
        for _ in 0..4 {
            budget.called();
        }
        assert_eq!([budget.take(now), budget.take(now)], [true, false]);
        assert!(!budget.take(now + REFILL / 4));
        assert!(budget.take(now + REFILL / 2));
        // It saves up no more than the reserve.
        let later = now + 100 * REFILL;
        assert_eq!([budget.take(later), budget.take(later), budget.take(later)], [true, true, false]);
    }

    #[test]
    fn work_that_gets_further_is_never_given_up() {
        let mut tries = Tries::new(2);
        for _ in 0..100 {
            assert_eq!(tries.failed(Got::Further), Next::Free);
            assert_eq!(tries.failed(Got::Nowhere), Next::Paid);
        }
        assert_eq!(tries.failed(Got::Nowhere), Next::Stop);
        assert_eq!(tries.made(), 201);
        assert_eq!(Tries::new(1).failed(Got::Nowhere), Next::Stop);
    }

    #[test]
    fn who_only_waited_is_given_up_later_and_not_never() {
        let mut tries = Tries::new(2);
        let next = [Got::Queued, Got::Queued, Got::Queued, Got::Queued].map(|got| tries.failed(got));
        assert_eq!(next, [Next::Paid, Next::Paid, Next::Paid, Next::Stop]);
        assert_eq!(Tries::new(1).failed(Got::Queued), Next::Paid);
    }

    proptest! {
        #[test]
        fn tries_never_exceed_their_share(calls in prop::collection::vec((any::<bool>(), 0u64..500), 0..300), reserve in 0u32..20) {
            let start = Instant::now();
            let (mut budget, mut now) = (RetryBudget::new(0.2, reserve, start), start);
            let (mut called, mut taken) = (0u32, 0u32);
            for (call, pause) in calls {
                now += Duration::from_millis(pause);
                if call {
                    budget.called();
                    called += 1;
                } else {
                    taken += u32::from(budget.take(now));
                }
            }
            let flown = (now - start).as_secs_f64() / REFILL.as_secs_f64() * f64::from(reserve);
            prop_assert!(f64::from(taken) <= f64::from(reserve) + 0.2 * f64::from(called) + flown + 1e-6);
        }
    }
}
