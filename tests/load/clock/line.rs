//! A stage that takes one call after the other, each as long as the last. A plain struct that is told the time.

use std::time::{Duration, Instant};

/// The line before it.
#[derive(Debug)]
pub(super) struct Line {
    each: Duration,
    limit: u32,
    free: Option<Instant>,
}

impl Line {
    /// Calls take `each`, and `limit` of them may wait.
    pub(super) fn new(each: Duration, limit: u32) -> Self {
        Self { each, limit, free: None }
    }

    /// When a call that comes now is answered.
    ///
    /// # Errors
    /// When the line is full: after what time it is shorter by one.
    pub(super) fn enter(&mut self, now: Instant) -> Result<Instant, Duration> {
        let begins = self.free.map_or(now, |free| free.max(now));
        let most = self.each.saturating_mul(self.limit);
        if begins - now > most {
            return Err(begins - now - most);
        }
        let ends = begins + self.each;
        self.free = Some(ends);
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_follow_each_other_and_the_line_is_bounded() {
        let now = Instant::now();
        let each = Duration::from_millis(10);
        let mut line = Line::new(each, 2);
        let mut after = |millis| {
            line.enter(now + Duration::from_millis(millis)).map(|ends| ends - now).map_err(|delay| delay.as_millis())
        };
        assert_eq!([after(0), after(0), after(0)], [Ok(each), Ok(2 * each), Ok(3 * each)]);
        assert_eq!(after(5), Err(5), "one runs and two wait");
        assert_eq!(after(100), Ok(11 * each));
    }
}
