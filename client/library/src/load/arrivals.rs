//! When requests come: equally far apart, or each by itself at random.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A Poisson process: arrivals that know nothing of each other.
#[derive(Debug, Clone)]
pub struct Poisson {
    rate: f64,
    at: f64,
}

impl Poisson {
    /// So many a second on average.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate, at: 0.0 }
    }

    /// Seconds from the start to the next arrival.
    pub fn next(&mut self, rng: &mut impl Rng) -> f64 {
        // 1 less what is below 1 is above 0.
        self.at -= (1.0 - rng.random::<f64>()).ln() / self.rate;
        self.at
    }
}

/// Times of arrivals from the start on, without an end. The same for the same seed.
#[derive(Debug, Clone)]
pub enum Arrivals {
    /// Always as far apart, the first at once.
    Constant {
        /// A second.
        rate: f64,
        /// The number of the next.
        next: u64,
    },
    /// At random.
    Poisson {
        /// The process.
        process: Poisson,
        /// What it is drawn from.
        rng: Box<StdRng>,
    },
}

impl Arrivals {
    /// `rate` a second, equally far apart.
    #[must_use]
    pub fn constant(rate: f64) -> Self {
        Self::Constant { rate, next: 0 }
    }

    /// `rate` a second on average, drawn from `seed`.
    #[must_use]
    pub fn poisson(rate: f64, seed: u64) -> Self {
        Self::Poisson { process: Poisson::new(rate), rng: Box::new(StdRng::seed_from_u64(seed)) }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    /// Never `None` for a rate above 0; a time beyond what a `Duration` holds is its largest.
    fn next(&mut self) -> Option<Duration> {
        let seconds = match self {
            Self::Constant { rate, next } => {
                let seconds = *next as f64 / *rate;
                *next += 1;
                seconds
            }
            Self::Poisson { process, rng } => process.next(rng.as_mut()),
        };
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_equally_far_apart() {
        let times: Vec<Duration> = Arrivals::constant(4.0).take(5).collect();
        assert_eq!(times, [0, 250, 500, 750, 1000].map(Duration::from_millis));
    }

    #[test]
    fn random_ones_have_their_rate_and_are_the_same_for_a_seed() {
        let times = |seed| -> Vec<Duration> { Arrivals::poisson(10.0, seed).take(10_000).collect() };
        for seed in 0..10 {
            let drawn = times(seed);
            assert!(drawn.is_sorted());
            // 1000 s, with four standard deviations of the sum of as many exponential times.
            let last = drawn.last().unwrap().as_secs_f64();
            assert!((last - 1000.0).abs() < 40.0, "seed {seed}: {last}");
            // Of exponential times the share 1 − 1/e is shorter than their mean: 6321 of 10,000, give or take four deviations.
            let gaps = drawn.windows(2).filter(|pair| pair[1] - pair[0] < Duration::from_millis(100)).count();
            assert!((6120..6520).contains(&gaps), "seed {seed}: {gaps}");
        }
        assert_eq!(times(3), times(3));
        assert_ne!(times(3), times(4));
    }
}
