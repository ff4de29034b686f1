//! How many rows of the model's batch are worthwhile, found by a few evaluations at warm-up. A plain struct: the caller
//! measures, times are arguments.
//!
//! A pass costs something once (reading the weights, starting the threads) and something for each row. More rows share the
//! first part, until there is little left to share; from there on a larger batch only makes everybody wait. The search doubles
//! the rows until a row gets hardly cheaper. Where its time runs out before, it goes on by the straight line through the small
//! pass and the largest one.

use std::time::Duration;

/// How much cheaper a row must get by doubling the rows to make that worthwhile.
const GAIN: f64 = 0.04;

/// Doublings without a gain after which the search ends: one may be a disturbance.
const PATIENCE: usize = 2;

/// The search.
#[derive(Debug)]
pub struct BatchSearch {
    time: f64,
    most_rows: usize,
    spent: f64,
    /// A pass of a part of a row: the part, and its seconds.
    small: Option<(f64, f64)>,
    /// Rows and seconds, in order.
    measured: Vec<(usize, f64)>,
}

impl BatchSearch {
    /// A search that starts no evaluation which would take it past `time`, but for the first, and stays below `most_rows`.
    pub fn new(time: Duration, most_rows: usize) -> Self {
        Self { time: time.as_secs_f64(), most_rows, spent: 0.0, small: None, measured: Vec::new() }
    }

    /// A pass over `part` of one row's pixels took so long. Costs next to nothing to find out for a large model.
    pub fn small(&mut self, part: f64, took: Duration) {
        self.small = Some((part, took.as_secs_f64()));
    }

    /// The rows to measure next; `None` when enough is known or the time is spent.
    pub fn next_rows(&self) -> Option<usize> {
        let Some((rows, seconds)) = self.measured.last() else { return Some(1) };
        let is_over = self.spent + 2.0 * seconds > self.time || 2 * rows > self.most_rows;
        (!is_over && !self.is_flat()).then_some(2 * rows)
    }

    /// An evaluation of so many rows took so long. The shortest of several counts.
    pub fn measured(&mut self, rows: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        self.spent += seconds;
        match self.measured.last_mut() {
            Some((last, shortest)) if *last == rows => *shortest = shortest.min(seconds),
            _ => self.measured.push((rows, seconds)),
        }
    }

    /// Whether so long an evaluation may be measured once more: what is short is easily disturbed.
    pub fn is_repeatable(&self, took: Duration) -> bool {
        self.spent + took.as_secs_f64() <= self.time / 2.0
    }

    /// The largest number of rows that is worthwhile, as far as is known.
    pub fn worthwhile_rows(&self) -> usize {
        let (mut rows, mut row_seconds) = (1usize, f64::INFINITY);
        for (measured, seconds) in &self.measured {
            let each = seconds / *measured as f64;
            // Each of the doublings in between must have been worth it.
            let doublings = measured.ilog2() - rows.ilog2();
            if each <= row_seconds * (1.0 - GAIN).powi(doublings as i32) {
                (rows, row_seconds) = (*measured, each);
            }
        }
        let Some((largest, seconds)) = self.measured.last().copied() else { return 1 };
        let (true, Some((part, small))) = (rows == largest, self.small) else { return rows };
        // seconds = once + each · rows
        let each = (seconds - small) / (largest as f64 - part);
        let once = (small - each * part).max(0.0);
        while 2 * rows <= self.most_rows {
            let (now, then) = (once / rows as f64 + each, once / (2 * rows) as f64 + each);
            if then > now * (1.0 - GAIN) {
                break;
            }
            rows *= 2;
        }
        rows
    }

    /// The largest number of rows, up to `most`, of which an evaluation takes no longer than `time`, going by the dearest row.
    pub fn rows_within(&self, time: Duration, most: usize) -> usize {
        let dearest = self.measured.iter().map(|(rows, seconds)| seconds / *rows as f64).fold(0.0, f64::max);
        let doublings = std::iter::successors(Some(1usize), |rows| rows.checked_mul(2));
        let within = |rows: &usize| *rows <= most && *rows as f64 * dearest <= time.as_secs_f64();
        doublings.take_while(within).last().unwrap_or(1)
    }

    /// Whether the last doublings gained nothing.
    fn is_flat(&self) -> bool {
        let worthwhile = self.measured.iter().scan(f64::INFINITY, |best, (rows, seconds)| {
            let each = seconds / *rows as f64;
            let gains = each <= *best * (1.0 - GAIN);
            *best = best.min(each);
            Some(gains)
        });
        worthwhile.collect::<Vec<_>>().iter().rev().take_while(|gains| !**gains).count() >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches with a model that takes `once + each · rows` seconds up to `knee` rows and `each` for every row beyond.
    /// Returns what is worthwhile, and the rows that were measured.
    fn search(once: f64, each: f64, time: f64) -> (usize, Vec<usize>) {
        let mut search = BatchSearch::new(Duration::from_secs_f64(time), 64);
        search.small(1.0 / 64.0, Duration::from_secs_f64(once + each / 64.0));
        let mut asked = Vec::new();
        while let Some(rows) = search.next_rows() {
            asked.push(rows);
            search.measured(rows, Duration::from_secs_f64(once + each * rows as f64));
        }
        (search.worthwhile_rows(), asked)
    }

    #[test]
    fn rows_are_doubled_until_a_row_gets_hardly_cheaper() {
        // Rows cost 2, 1.5, 1.25, 1.125, 1.0625, 1.03 of a unit: the last doubling gains 3 %.
        assert_eq!(search(0.01, 0.01, 10.0), (16, vec![1, 2, 4, 8, 16, 32, 64]));
        assert_eq!(search(0.0, 0.01, 10.0), (1, vec![1, 2, 4]), "nothing to share");
        assert_eq!(search(1.0, 1e-4, 1000.0).0, 64, "all to share");
    }

    #[test]
    fn where_the_time_is_short_the_line_goes_on() {
        // A full-size model on two cores: one pass is measured and the rest follows from it.
        let (rows, asked) = search(0.15, 0.75, 0.5);
        assert_eq!((rows, asked), (4, vec![1]));
        let (rows, asked) = search(0.01, 0.01, 0.1);
        assert_eq!((rows, asked), (16, vec![1, 2]));
    }

    #[test]
    fn one_disturbed_evaluation_does_not_end_the_search() {
        let mut search = BatchSearch::new(Duration::from_secs(10), 64);
        for (rows, milliseconds) in [(1, 20), (2, 60), (4, 40), (8, 60), (16, 110)] {
            assert_eq!(search.next_rows(), Some(rows));
            search.measured(rows, Duration::from_millis(milliseconds));
        }
        assert_eq!(search.worthwhile_rows(), 16);
        search.measured(16, Duration::from_millis(300));
        assert_eq!(search.worthwhile_rows(), 16, "the shortest counts");
        // The dearest row took 30 ms.
        assert_eq!([130, 29, 10_000].map(|ms| search.rows_within(Duration::from_millis(ms), 32)), [4, 1, 32]);
    }
}
