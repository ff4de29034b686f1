//! How long evaluations take here, as measured, by the size of the latents and the rows in the batch.
//!
//! Sizes and rows are kept in powers of two: so many times fit into a small table, and any pair has a neighbour that was
//! measured. Between neighbours, time goes with the number of latent pixels.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::slots::LatentSize;

/// Weight of the newest evaluation in a smoothed time: about the last ten count.
pub(crate) const SMOOTHING: f64 = 0.2;

/// One measured evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTime {
    /// Of the latents.
    pub size: LatentSize,
    /// Rows of the batch.
    pub rows: usize,
    /// From the call of the model to its answer.
    pub took: Duration,
}

/// The table: logarithms of pixels and rows to seconds a pixel.
#[derive(Debug, Default)]
pub(crate) struct StepTimes(BTreeMap<(u32, u32), f64>);

impl StepTimes {
    /// Takes one more evaluation in.
    pub(crate) fn record(&mut self, time: &StepTime) {
        let pixels = time.size.pixels().saturating_mul(time.rows).max(1);
        let seconds = time.took.as_secs_f64() / pixels as f64;
        self.0
            .entry(key(time.size, time.rows))
            .and_modify(|smoothed| *smoothed += SMOOTHING * (seconds - *smoothed))
            .or_insert(seconds);
    }

    /// Seconds that one row's part of an evaluation takes in a batch of `rows`; `None` before anything was measured.
    pub(crate) fn row_seconds(&self, size: LatentSize, rows: usize) -> Option<f64> {
        let (of_size, of_rows) = key(size, rows);
        // Another size is further away than another number of rows: attention grows with its square.
        let distance = |(size, rows): &(u32, u32)| 2 * size.abs_diff(of_size) + rows.abs_diff(of_rows);
        let nearest = self.0.iter().min_by_key(|(key, _)| distance(key))?;
        Some(nearest.1 * size.pixels() as f64)
    }
}

fn key(size: LatentSize, rows: usize) -> (u32, u32) {
    (size.pixels().max(1).ilog2(), rows.max(1).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(side: usize, rows: usize, seconds: f64) -> StepTime {
        StepTime { size: LatentSize { height: side, width: side }, rows, took: Duration::from_secs_f64(seconds) }
    }

    #[test]
    fn what_was_measured_is_told_and_what_was_not_comes_from_its_neighbour() {
        let mut times = StepTimes::default();
        let size = |side| time(side, 1, 0.0).size;
        assert_eq!(times.row_seconds(size(8), 2), None);
        times.record(&time(8, 1, 0.5));
        times.record(&time(8, 8, 2.0));
        assert_eq!(times.row_seconds(size(8), 1), Some(0.5));
        assert_eq!(times.row_seconds(size(8), 8), Some(0.25));
        assert_eq!(times.row_seconds(size(8), 16), Some(0.25), "eight rows are nearer than one");
        assert_eq!(times.row_seconds(size(16), 1), Some(2.0), "four times the pixels");
    }

    #[test]
    fn a_time_starts_with_the_first_and_follows_the_last() {
        let mut times = StepTimes::default();
        times.record(&time(8, 2, 9.0));
        for _ in 0..60 {
            times.record(&time(8, 2, 1.0));
        }
        assert!((times.row_seconds(time(8, 2, 0.0).size, 2).unwrap() - 0.5).abs() < 1e-3);
    }
}
