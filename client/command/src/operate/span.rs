//! Spans of time as people write and read them.

use std::time::Duration;

/// No flag takes more.
const MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Seconds, or a number with s, m or h behind it: 90, 0.5s, 10m, 2h. More than 0, 30 days at most.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.trim().to_ascii_lowercase() {
        text if text.ends_with('s') => (text.trim_end_matches('s').to_owned(), 1.0),
        text if text.ends_with('m') => (text.trim_end_matches('m').to_owned(), 60.0),
        text if text.ends_with('h') => (text.trim_end_matches('h').to_owned(), 3600.0),
        text => (text, 1.0),
    };
    let seconds = number.trim_end().parse::<f64>().map(|number| number * factor).ok();
    let span = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    span.filter(|span| !span.is_zero() && *span <= MOST).ok_or_else(|| {
        "allowed are seconds above 0, or minutes or hours, such as 90, 0.5s, 10m or 2h, up to 720h".into()
    })
}

/// A time for people: 0.25 s, 41 s, 3 min 20 s, 2 h 5 min, 3 d 4 h.
pub(super) fn told(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.is_zero() => "0 s".into(),
        0 => format!("{:.2} s", span.as_secs_f64()),
        1..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// As [`told`], of a number of seconds that came from outside.
pub(super) fn told_seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "?".into(), told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_units() {
        for (text, seconds) in [("90", 90.0), ("0.5s", 0.5), ("10m", 600.0), ("2H", 7200.0), (" 1.5 m", 90.0)] {
            assert_eq!(span(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
        for text in ["", "0", "-1", "x", "1d", "NaN", "inf", "721h", "1e300", "5 minutes"] {
            assert!(span(text).unwrap_err().contains("allowed are"), "{text}");
        }
    }

    #[test]
    fn spans_are_told_as_long_as_they_are() {
        let told = [0.0, 0.254, 4.26, 41.9, 200.0, 7500.0, 273_600.0].map(told_seconds);
        assert_eq!(told, ["0 s", "0.25 s", "4.3 s", "41 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
        assert_eq!(told_seconds(f64::NAN), "?");
    }
}
