//! Times, however many, in bounded memory, and their percentiles.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// So many are kept: 2 MiB. Percentiles are exact up to there.
const KEPT: usize = 1 << 18;

/// A percentile is the smallest sample that as many are at most as large as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Samples.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Half of them are at most this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 95 of a hundred.
    pub p95: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Percentiles {
    /// Of all of these, exactly; all 0 where there are none.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(samples.into_iter().collect());
        let (count, sum) = (sorted.len(), sorted.iter().sum());
        Self::at(&sorted, count, sum, sorted.last().copied())
    }

    fn at(sorted: &[f64], count: usize, sum: f64, max: Option<f64>) -> Self {
        let rank = |percent: usize| (sorted.len() * percent).div_ceil(100).max(1);
        let at = |percent| sorted.get(rank(percent) - 1).copied().unwrap_or_default();
        let (mean, max) = (sum / count.max(1) as f64, max.unwrap_or_default());
        Self { count, mean, p50: at(50), p90: at(90), p95: at(95), p99: at(99), max }
    }
}

fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    samples
}

/// Samples that come one by one, as many as there may be. Beyond 262,144 a random choice of them stands for all, in which each has had the
/// same chance to stay (Vitter's algorithm R): count, mean and maximum stay exact, the p99 is then off by 0.1 percentage points at most,
/// as good as always.
#[derive(Debug, Clone)]
pub struct Samples {
    kept: Vec<f64>,
    count: usize,
    sum: f64,
    max: Option<f64>,
    rng: StdRng,
}

impl Default for Samples {
    fn default() -> Self {
        // Which of the samples stay decides nothing that anybody could foresee.
        Self { kept: Vec::new(), count: 0, sum: 0.0, max: None, rng: StdRng::seed_from_u64(0) }
    }
}

impl Samples {
    /// One more.
    pub fn add(&mut self, sample: f64) {
        self.count += 1;
        self.sum += sample;
        self.max = Some(self.max.map_or(sample, |max| max.max(sample)));
        if self.kept.len() < KEPT {
            self.kept.push(sample);
        } else if let Some(place) = self.kept.get_mut(self.rng.random_range(0..self.count)) {
            *place = sample;
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Of all so far; all 0 where there are none.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        Percentiles::at(&sorted(self.kept.clone()), self.count, self.sum, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let percentiles = Percentiles::of((1..=200).rev().map(f64::from));
        let expected =
            Percentiles { count: 200, mean: 100.5, p50: 100.0, p90: 180.0, p95: 190.0, p99: 198.0, max: 200.0 };
        assert_eq!(percentiles, expected);
        let one = Percentiles::of([3.0]);
        assert_eq!((one.p50, one.p99, one.max), (3.0, 3.0, 3.0));
        assert_eq!(Percentiles::of([]), Percentiles::default());
    }

    #[test]
    fn samples_one_by_one_are_the_same() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentiles(), Percentiles::default());
        (1..=200).rev().for_each(|number| samples.add(f64::from(number)));
        assert_eq!(samples.percentiles(), Percentiles::of((1..=200).map(f64::from)));
    }

    #[test]
    fn memory_is_bounded_and_what_stays_stands_for_all() {
        let mut samples = Samples::default();
        let count = 4 * KEPT;
        // Rising, so that a choice of the first or the last would show.
        (0..count).for_each(|number| samples.add(number as f64));
        assert_eq!(samples.kept.len(), KEPT);
        let Percentiles { count: found, mean, p50, p99, max, .. } = samples.percentiles();
        assert_eq!((found, max), (count, (count - 1) as f64));
        assert!((mean - max / 2.0).abs() < 1.0);
        let share = |value: f64| value / count as f64;
        assert!((share(p50) - 0.5).abs() < 0.005 && (share(p99) - 0.99).abs() < 0.001, "{p50} {p99}");
    }
}
