//! Percentiles of exact samples.

use serde::{Deserialize, Serialize};

/// Some seconds, as they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Of these; all 0 where there are none. A percentile is the smallest sample that as many are at most as large as.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let at = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or_default()
        };
        let mean = sorted.iter().sum::<f64>() / count.max(1) as f64;
        Self { count, mean, p50: at(50), p90: at(90), p95: at(95), p99: at(99), max: at(100) }
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
}
