//! How often a running request tells where it stands: as often as the wire can bear. A plain struct; `now` is an argument.

use std::time::Instant;

/// Bytes of checkpoints a second on one stream, on average and at most. A request of 512×512 pixels has 64 to 384 KiB of
/// states: below this rate all of its evaluations are told, however fast they come.
const BYTES_PER_SECOND: f64 = 1e6;

/// When one request's next checkpoint is due.
#[derive(Debug)]
pub(crate) struct CheckpointPace {
    bytes: usize,
    told: Option<Instant>,
}

impl CheckpointPace {
    /// For checkpoints of so many bytes, the first of which is due at once.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, told: None }
    }

    /// Whether the rate allows a checkpoint now. The time that evaluations really take decides, so a request that gets slower
    /// in company tells more of them.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let elapsed = self.told.map(|told| now.saturating_duration_since(told).as_secs_f64());
        elapsed.is_none_or(|seconds| self.bytes as f64 <= BYTES_PER_SECOND * seconds)
    }

    /// A checkpoint was told.
    pub(crate) fn told(&mut self, now: Instant) {
        self.told = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The evaluations, of `each` milliseconds, that are told.
    fn told(bytes: usize, each: u64, evaluations: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = CheckpointPace::new(bytes);
        let is_told = |index: &u64| {
            let now = start + Duration::from_millis(each * index);
            let due = pace.is_due(now);
            if due {
                pace.told(now);
            }
            due
        };
        (0..evaluations).filter(is_told).collect()
    }

    #[test]
    fn slow_evaluations_are_all_told_and_quick_ones_less_often() {
        // 256 KiB: four megabytes a second when told every 65 ms, a quarter of one when told every second.
        assert_eq!(told(256 << 10, 1000, 5), [0, 1, 2, 3, 4]);
        assert_eq!(told(256 << 10, 100, 8), [0, 3, 6]);
    }

    proptest! {
        #[test]
        fn the_rate_is_kept_and_used(bytes in 1usize..8_000_000, each in 1u64..3000) {
            let told = told(bytes, each, 200);
            for pair in told.windows(2) {
                let (seconds, before) = ((pair[1] - pair[0]) * each, (pair[1] - pair[0] - 1) * each);
                prop_assert!(bytes as u64 <= 1000 * seconds, "too often");
                prop_assert!(bytes as u64 > 1000 * before, "one evaluation earlier was allowed");
            }
            prop_assert_eq!(told[0], 0);
        }
    }
}
