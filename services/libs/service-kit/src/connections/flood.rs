//! How many frames a client may send that move nothing on: a bucket that time and the server's own answers fill again.

use std::time::Instant;

/// What each frame of an answer gives back: its reader may say that it has room again, probe the line, or let go.
const ANSWER: u32 = 4;
/// A full bucket is a minute's worth.
const REFILL_SECONDS: f64 = 60.0;

/// The control frames that a connection has left. A plain struct that takes `now` as an argument.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u32,
    left: f64,
    counted: Instant,
}

impl Allowance {
    pub(crate) fn new(most: u32, now: Instant) -> Self {
        Self { most, left: most.into(), counted: now }
    }

    /// The client has sent such a frame. False when it was one too many.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.give(seconds * f64::from(self.most) / REFILL_SECONDS);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// The server has sent a frame of an answer.
    pub(crate) fn answered(&mut self) {
        self.give(ANSWER.into());
    }

    fn give(&mut self, frames: f64) {
        self.left = (self.left + frames).min(self.most.into());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(allowance: &mut Allowance, now: Instant) -> usize {
        (0..10_000).take_while(|_| allowance.take(now)).count()
    }

    #[test]
    fn a_flood_ends_and_time_or_answers_allow_more() {
        let now = Instant::now();
        let mut allowance = Allowance::new(600, now);
        assert_eq!(run(&mut allowance, now), 600);
        assert_eq!(run(&mut allowance, now + Duration::from_secs(1)), 10);
        for _ in 0..5 {
            allowance.answered();
        }
        assert_eq!(run(&mut allowance, now + Duration::from_secs(1)), 20);
        assert_eq!(run(&mut allowance, now + Duration::from_secs(3600)), 600);
    }

    #[test]
    fn keep_alive_probes_are_no_flood() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(60, now);
        for _ in 0..10_000 {
            now += Duration::from_secs(10);
            assert!(allowance.take(now));
        }
    }
}
