//! From counters that only grow to rates: a plain struct over what the server said, by the server's own clock.

use std::collections::VecDeque;
use std::time::Duration;

use darkroom_client::{ServerInfo, Totals};

/// Rates are of so long at most.
const WINDOW: Duration = Duration::from_secs(60);

/// What a server did lately.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rates {
    /// In how long.
    pub(super) over: Duration,
    /// A minute.
    pub(super) images: f64,
    pub(super) failed_images: f64,
    pub(super) admitted_requests: f64,
    pub(super) refused_requests: f64,
    /// A second.
    pub(super) steps: f64,
}

/// Its counters over the last minute. At least every 0.1 s a look, so 601 of them at most, and one that is older.
#[derive(Debug, Default)]
pub(super) struct History {
    looks: VecDeque<(Duration, Totals)>,
}

impl History {
    /// The newest answer. One that counts from anew is another process's.
    pub(super) fn add(&mut self, info: &ServerInfo) {
        if self.looks.back().is_some_and(|(uptime, _)| info.uptime < *uptime) {
            self.looks.clear();
        }
        self.looks.push_back((info.uptime, info.totals));
        // The newest of those that are a whole window old is where it begins.
        while self.looks.get(1).is_some_and(|(uptime, _)| info.uptime - *uptime >= WINDOW) {
            self.looks.pop_front();
        }
    }

    /// Of the window, or as far back as it was looked; by the first look alone, since the server started.
    pub(super) fn rates(&self) -> Rates {
        let Some((now, totals)) = self.looks.back() else { return Rates::default() };
        let start = (Duration::ZERO, Totals::default());
        let (then, before) = if self.looks.len() > 1 { self.looks.front().unwrap_or(&start) } else { &start };
        let over = now.saturating_sub(*then);
        let seconds = over.as_secs_f64().max(f64::MIN_POSITIVE);
        let a_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let a_minute = |now, before| 60.0 * a_second(now, before);
        Rates {
            over,
            images: a_minute(totals.images, before.images),
            failed_images: a_minute(totals.failed_images, before.failed_images),
            admitted_requests: a_minute(totals.admitted_requests, before.admitted_requests),
            refused_requests: a_minute(totals.refused_requests, before.refused_requests),
            steps: a_second(totals.steps, before.steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::workers::tests::info;

    fn at(seconds: u64, images: u64) -> ServerInfo {
        let totals = Totals { images, steps: 10 * images, ..Totals::default() };
        ServerInfo { uptime: Duration::from_secs(seconds), totals, ..info(Vec::new()) }
    }

    fn rates(looks: &[(u64, u64)]) -> (u64, f64, f64) {
        let mut history = History::default();
        looks.iter().for_each(|(seconds, images)| history.add(&at(*seconds, *images)));
        let Rates { over, images, steps, .. } = history.rates();
        (over.as_secs(), images, steps)
    }

    #[test]
    fn the_first_look_gives_the_rates_since_the_start() {
        assert_eq!(rates(&[(120, 240)]), (120, 120.0, 20.0));
        assert_eq!(rates(&[]), (0, 0.0, 0.0));
    }

    #[test]
    fn later_ones_give_those_of_the_last_minute() {
        assert_eq!(rates(&[(120, 240), (122, 242)]), (2, 60.0, 10.0));
        let looks: Vec<(u64, u64)> = (0..200).map(|n| (100 + 2 * n, if n < 150 { 0 } else { n - 149 })).collect();
        assert_eq!(rates(&looks), (60, 30.0, 5.0));
    }

    #[test]
    fn rare_looks_are_told_of_their_own_time() {
        assert_eq!(rates(&[(100, 0), (400, 100), (700, 400)]), (300, 60.0, 10.0));
    }

    #[test]
    fn a_server_that_began_anew_is_counted_anew() {
        assert_eq!(rates(&[(100, 500), (102, 510), (10, 5)]), (10, 30.0, 5.0));
    }
}
