//! Who got how much, against what was due to them.

use serde::{Deserialize, Serialize};

/// One identity's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// What it is due, of all weights together.
    pub due: f64,
    /// What it asked for, of all work that was asked for.
    pub offered: f64,
    /// What it got, of all work that was done.
    pub got: f64,
    /// Of what it asked for, what it got.
    pub served: f64,
}

/// Everybody's parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// By identity.
    pub shares: Vec<Share>,
    /// Jain's index over work by weight of those who asked for at least what they are due: 1 when all got the same, 1/n when one got
    /// everything.
    pub jain: f64,
}

impl Fairness {
    /// From each identity's weight, and its work asked for and done.
    #[must_use]
    pub fn of(identities: &[(f64, u64, u64)]) -> Self {
        let weights: f64 = identities.iter().map(|(weight, ..)| weight).sum();
        let asked: u64 = identities.iter().map(|(_, asked, _)| asked).sum();
        let done: u64 = identities.iter().map(|(.., done)| done).sum();
        let part = |of: f64, whole: f64| if whole > 0.0 { of / whole } else { 0.0 };
        let share = |&(weight, its_asked, its_done): &(f64, u64, u64)| Share {
            due: part(weight, weights),
            offered: part(its_asked as f64, asked as f64),
            got: part(its_done as f64, done as f64),
            served: part(its_done as f64, its_asked as f64),
        };
        // Who wants less than their due cannot be given it.
        let wants = |&&(weight, its_asked, _): &&(f64, u64, u64)| its_asked as f64 * weights >= weight * done as f64;
        let rates: Vec<f64> =
            identities.iter().filter(wants).map(|&(weight, _, done)| part(done as f64, weight)).collect();
        Self { shares: identities.iter().map(share).collect(), jain: jain(&rates) }
    }
}

/// (Σx)² / (n · Σx²).
fn jain(values: &[f64]) -> f64 {
    let (sum, squares) = values.iter().fold((0.0, 0.0), |(sum, squares), value| (sum + value, squares + value * value));
    if squares == 0.0 { 1.0 } else { sum * sum / (values.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equals_and_one_nth_for_a_winner() {
        assert!((jain(&[3.0; 7]) - 1.0).abs() < 1e-12);
        assert!((jain(&[0.0, 5.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
        assert_eq!(jain(&[]), 1.0);
    }

    #[test]
    fn work_is_held_against_weights() {
        let fairness = Fairness::of(&[(3.0, 900, 300), (1.0, 900, 100)]);
        assert!((fairness.jain - 1.0).abs() < 1e-12);
        let expected = Share { due: 0.75, offered: 0.5, got: 0.75, served: 1.0 / 3.0 };
        assert_eq!(fairness.shares[0], expected);
    }

    #[test]
    fn who_asks_for_little_is_served_and_not_compared() {
        let fairness = Fairness::of(&[(1.0, 1000, 495), (1.0, 1000, 495), (1.0, 10, 10)]);
        assert!((fairness.jain - 1.0).abs() < 1e-12, "{fairness:?}");
        assert_eq!(fairness.shares[2].served, 1.0);
    }
}
