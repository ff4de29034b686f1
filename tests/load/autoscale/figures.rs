//! What came of a run: waits, curves, cost, and how restless the replicas were.

use std::fmt;
use std::time::Duration;

use super::controller::Scaled;
use crate::load::percentiles::Percentiles;

/// Nineteen of twenty requests shall begin within it: the objective of the alerts in `deploy/prometheus`.
pub const OBJECTIVE: f64 = 30.0;
/// A turn back within it is flapping.
const RESTLESS: Duration = Duration::from_secs(600);
/// Characters of a curve.
const COLUMNS: usize = 96;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With its picture.
    Served,
    /// At the door, by the queue's bounds.
    Refused,
    /// It waited for a denoiser in vain.
    Unserved,
}

/// One moment of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// From the start.
    pub at: Duration,
    /// Replicas that were asked for.
    pub replicas: u32,
    /// Those that take work.
    pub ready: u32,
    /// What the signal says.
    pub work_seconds: f64,
    /// Seconds of all replicas so far.
    pub spent: f64,
}

/// What is noted while it runs.
pub struct Course {
    requests: usize,
    waits: Vec<f64>,
    latencies: Vec<f64>,
    refused: usize,
    unserved: usize,
    handed_on: usize,
    scalings: Vec<(Duration, Scaled)>,
    points: Vec<Point>,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Requests that came.
    pub requests: usize,
    /// Seconds from a request's arrival to its first slot.
    pub wait: Percentiles,
    /// Seconds to its picture.
    pub latency: Percentiles,
    /// Requests that waited for longer than the objective.
    pub late: usize,
    /// Requests that were refused at the door.
    pub refused: usize,
    /// Requests that no denoiser came for.
    pub unserved: usize,
    /// Requests that neither ended nor failed.
    pub lost: usize,
    /// Pictures that went on elsewhere because their denoiser left.
    pub handed_on: usize,
    /// Seconds of all replicas, from their creation to their end.
    pub replica_seconds: f64,
    /// Decisions that changed replicas.
    pub scalings: usize,
    /// Those that turned back within ten minutes.
    pub flaps: usize,
    /// The curves.
    pub points: Vec<Point>,
}

impl Course {
    pub(super) fn new(requests: usize) -> Self {
        let (waits, latencies, scalings, points) = Default::default();
        Self { requests, waits, latencies, refused: 0, unserved: 0, handed_on: 0, scalings, points }
    }

    pub(super) fn started(&mut self, waited: Duration) {
        self.waits.push(waited.as_secs_f64());
    }

    pub(super) fn ended(&mut self, fate: Fate, age: Duration) {
        match fate {
            Fate::Served => self.latencies.push(age.as_secs_f64()),
            Fate::Refused => self.refused += 1,
            Fate::Unserved => self.unserved += 1,
        }
    }

    pub(super) fn handed_on(&mut self, pictures: usize) {
        self.handed_on += pictures;
    }

    pub(super) fn scaled(&mut self, at: Duration, scaled: Scaled) {
        self.scalings.push((at, scaled));
    }

    pub(super) fn sample(&mut self, at: Duration, replicas: u32, ready: u32, work_seconds: f64, spent: f64) {
        self.points.push(Point { at, replicas, ready, work_seconds, spent });
    }

    pub(super) fn figures(&self) -> Figures {
        let up = |(_, scaled): &(Duration, Scaled)| scaled.to > scaled.from;
        let back = |pair: &&[(Duration, Scaled)]| up(&pair[0]) != up(&pair[1]) && pair[1].0 - pair[0].0 < RESTLESS;
        let (refused, unserved) = (self.refused, self.unserved);
        Figures {
            requests: self.requests,
            wait: Percentiles::of(self.waits.iter().copied()),
            latency: Percentiles::of(self.latencies.iter().copied()),
            late: self.waits.iter().filter(|wait| **wait > OBJECTIVE).count(),
            refused,
            unserved,
            lost: self.requests - self.latencies.len() - refused - unserved,
            handed_on: self.handed_on,
            replica_seconds: self.points.last().map_or(0.0, |point| point.spent),
            scalings: self.scalings.len(),
            flaps: self.scalings.windows(2).filter(back).count(),
            points: self.points.clone(),
        }
    }
}

impl Figures {
    /// Mean replicas.
    #[must_use]
    pub fn mean_replicas(&self) -> f64 {
        let seconds = self.points.last().map_or(0.0, |point| point.at.as_secs_f64());
        if seconds > 0.0 { self.replica_seconds / seconds } else { 0.0 }
    }

    /// Replicas and the queue over time, and what that cost.
    #[must_use]
    pub fn curves(&self) -> String {
        let replicas: Vec<f64> = self.points.iter().map(|point| f64::from(point.replicas)).collect();
        let work: Vec<f64> = self.points.iter().map(|point| point.work_seconds).collect();
        let curve = |name: &str, values: &[f64]| {
            let most = values.iter().copied().fold(0.0, f64::max);
            format!("{name} 0–{most:<6.0} {}\n", sparkline(values, COLUMNS))
        };
        let (seconds, mean) = (self.replica_seconds, self.mean_replicas());
        let Self { scalings, flaps, handed_on, .. } = self;
        format!(
            "{seconds:.0} replica seconds ({mean:.2} at a time), {scalings} scalings, {flaps} of them back within 10 min, \
             {handed_on} pictures handed on\n{}{}",
            curve("replicas", &replicas),
            curve("queued s", &work)
        )
    }

    /// Decisions that changed replicas, in an hour.
    #[must_use]
    pub fn scalings_an_hour(&self) -> f64 {
        let hours = self.points.last().map_or(0.0, |point| point.at.as_secs_f64() / 3600.0);
        if hours > 0.0 { self.scalings as f64 / hours } else { 0.0 }
    }

    /// In one cell of a table: the waits' median, 95th percentile and maximum in seconds, the late, replicas at a time, scalings and those
    /// of them that turned back, and the refused and unserved where there are any.
    #[must_use]
    pub fn cell(&self) -> String {
        let Percentiles { p50, p95, max, .. } = self.wait;
        let late = 100.0 * self.late as f64 / self.requests.max(1) as f64;
        let replicas = self.mean_replicas();
        let failed = self.refused + self.unserved + self.lost;
        let failed = if failed > 0 { format!(", {failed} refused") } else { String::new() };
        let (scalings, flaps) = (self.scalings, self.flaps);
        format!("{p50:.0} / {p95:.0} / {max:.0}, {late:.1} %, {replicas:.2}, {scalings}, {flaps}{failed}")
    }

    /// The curves as comma-separated values.
    #[must_use]
    pub fn csv(&self) -> String {
        let line = |point: &Point| {
            let Point { at, replicas, ready, work_seconds, spent } = point;
            format!("{},{replicas},{ready},{work_seconds:.1},{spent:.0}\n", at.as_secs())
        };
        let head = "seconds,replicas,ready,queued_work_seconds,replica_seconds\n";
        std::iter::once(head.to_owned()).chain(self.points.iter().map(line)).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { p50, p95, max, .. } = self.wait;
        writeln!(
            f,
            "{} requests: wait p50 {p50:.1} s, p95 {p95:.1} s, max {max:.1} s; {} late, {} refused, {} unserved, {} lost",
            self.requests, self.late, self.refused, self.unserved, self.lost
        )?;
        f.write_str(&self.curves())
    }
}

/// The largest value of each column, in eighths of the largest of all; blank where it is 0.
#[must_use]
pub fn sparkline(values: &[f64], columns: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let each = values.len().div_ceil(columns).max(1);
    let bar = |chunk: &[f64]| {
        let value = chunk.iter().copied().fold(0.0, f64::max);
        let eighths = if most > 0.0 { (value / most * 8.0).ceil() as usize } else { 0 };
        BARS[eighths.min(8)]
    };
    values.chunks(each).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_shows_the_largest_of_each_column() {
        assert_eq!(sparkline(&[0.0, 1.0, 0.0, 8.0, 4.0, 4.0], 3), "▁█▄");
        assert_eq!(sparkline(&[0.0; 4], 2), "  ");
        assert_eq!(sparkline(&[], 2), "");
    }

    #[test]
    fn turning_back_soon_is_flapping() {
        let mut course = Course::new(1);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (at, from, to) in [(0, 1, 2), (5, 2, 4), (14, 4, 3), (25, 3, 5), (34, 5, 1)] {
            course.scaled(minutes(at), Scaled { from, to });
        }
        let figures = course.figures();
        assert_eq!((figures.scalings, figures.flaps), (5, 2));
        assert_eq!((figures.requests, figures.lost), (1, 1));
    }
}
