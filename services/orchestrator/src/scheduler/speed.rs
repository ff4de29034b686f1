//! How fast the denoisers are, from what each of them says of itself, and how far that was from the truth.
//!
//! An evaluation takes a fixed time and a time for each latent pixel of its rows. Each worker tells two points of that line, measured
//! there: one picture by itself, and a full batch. What pictures really take is compared with it: sizes that take turns,
//! other orchestrators' work and a busy machine all show as a slowdown.

/// Weight of the newest picture in the slowdown.
const SMOOTHING: f64 = 0.2;
/// A slowdown beyond this is a broken clock.
const MOST_SLOWDOWN: f64 = 100.0;

/// What one denoiser says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WorkerSpeed {
    /// Latent pixels that run at once.
    pub(crate) batch_pixels: u64,
    /// Latent pixels of one guided picture of the default size, and seconds of an evaluation of it alone; 0 while unmeasured.
    pub(crate) picture: (u64, f64),
    /// Seconds of an evaluation of a full batch; 0 while unmeasured.
    pub(crate) batch_seconds: f64,
}

/// Seconds of an evaluation: `fixed` + `pixel` × latent pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    fixed: f64,
    pixel: f64,
}

impl Line {
    /// Seconds of one evaluation of so many latent pixels.
    pub(crate) fn seconds(&self, pixels: u64) -> f64 {
        self.fixed + self.pixel * pixels as f64
    }

    fn of(worker: &WorkerSpeed) -> Option<Self> {
        let (pixels, seconds) = worker.picture;
        let measured = |seconds: f64| seconds.is_finite() && seconds > 0.0;
        if pixels == 0 || !measured(seconds) {
            return None;
        }
        if worker.batch_pixels <= pixels || !measured(worker.batch_seconds) {
            return Some(Self { fixed: 0.0, pixel: seconds / pixels as f64 });
        }
        let pixel = ((worker.batch_seconds - seconds) / (worker.batch_pixels - pixels) as f64).max(0.0);
        Some(Self { fixed: (seconds - pixel * pixels as f64).max(0.0), pixel })
    }
}

/// All denoisers together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Speed {
    /// Latent pixels that run at once in all of them.
    capacity: u64,
    /// In the largest: a picture that takes more runs there alone.
    largest: u64,
    workers: usize,
    /// Those whose `throughput` it is: the last ones while there are none.
    measured_workers: usize,
    /// What an evaluation takes in a typical one.
    line: Line,
    /// And in the fastest.
    fastest: Line,
    /// Latent pixels × evaluations a second, all batches full.
    throughput: f64,
    /// Some worker has measured itself.
    measured: bool,
    /// By what factor pictures took longer than their lines have it; `None` before the first.
    slowdown: Option<f64>,
    /// Of a worker that has not measured itself.
    assumed: Line,
}

impl Speed {
    /// No workers. Until one has measured itself, an evaluation is taken to last `seconds_a_pixel` for each latent pixel.
    pub(crate) fn assumed(seconds_a_pixel: f64) -> Self {
        let assumed = Line { fixed: 0.0, pixel: seconds_a_pixel };
        Self {
            capacity: 0,
            largest: 0,
            workers: 0,
            measured_workers: 1,
            line: assumed,
            fastest: assumed,
            throughput: 1.0 / seconds_a_pixel,
            measured: false,
            slowdown: None,
            assumed,
        }
    }

    /// The denoisers that take work now. Without any, the times of the last ones stay: they say how long work would take.
    pub(crate) fn set_workers(&mut self, workers: &[WorkerSpeed]) {
        self.workers = workers.len();
        self.capacity = workers.iter().fold(0u64, |sum, worker| sum.saturating_add(worker.batch_pixels));
        self.largest = workers.iter().map(|worker| worker.batch_pixels).max().unwrap_or(0);
        let lines: Vec<Line> = workers.iter().filter_map(Line::of).collect();
        if workers.is_empty() || (lines.is_empty() && self.measured) {
            return;
        }
        self.measured = !lines.is_empty();
        let share = 1.0 / lines.len().max(1) as f64;
        let mean = lines.iter().fold(Line { fixed: 0.0, pixel: 0.0 }, |mean, line| Line {
            fixed: mean.fixed + share * line.fixed,
            pixel: mean.pixel + share * line.pixel,
        });
        self.line = if self.measured { mean } else { self.assumed };
        let most = self.largest;
        let quicker = |left: &&Line, right: &&Line| left.seconds(most).total_cmp(&right.seconds(most));
        self.fastest = lines.iter().min_by(quicker).copied().unwrap_or(self.assumed);
        let full = |worker: &WorkerSpeed| {
            let line = Line::of(worker).unwrap_or(self.line);
            worker.batch_pixels as f64 / line.seconds(worker.batch_pixels)
        };
        self.throughput = workers.iter().map(full).sum();
        self.measured_workers = workers.len();
    }

    /// A picture that takes `pixels` took `seconds` for so many evaluations, while the fleet was as full as `used` says.
    pub(crate) fn measure(&mut self, pixels: u64, evaluations: u32, used: u64, seconds: f64) {
        let told = self.evaluation(pixels, used) * f64::from(evaluations);
        let ratio = seconds / told;
        if ratio.is_finite() && ratio > 0.0 {
            let ratio = ratio.min(MOST_SLOWDOWN);
            self.slowdown = Some(self.slowdown.map_or(ratio, |mean| mean + SMOOTHING * (ratio - mean)));
        }
    }

    /// Whether anything that is said here was measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured || self.slowdown.is_some()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What a picture of so many pixels takes of the capacity.
    pub(crate) fn room(&self, pixels: u64) -> u64 {
        pixels.min(self.largest)
    }

    /// Latent pixels × evaluations a second, all together.
    pub(crate) fn throughput(&self) -> f64 {
        // What was assumed is as wrong for all as for one.
        if self.measured { self.throughput } else { self.throughput / self.slowdown.unwrap_or(1.0) }
    }

    /// The same of one worker, the last known if there is none.
    pub(crate) fn worker_throughput(&self) -> f64 {
        self.throughput() / self.measured_workers as f64
    }

    /// Seconds that so many evaluations of one picture are expected to take while `used` pixels run in all workers.
    pub(crate) fn expected(&self, pixels: u64, evaluations: u32, used: u64) -> f64 {
        self.evaluation(pixels, used) * f64::from(evaluations) * self.slowdown.unwrap_or(1.0)
    }

    /// Seconds that they take at least: alone, in the fastest worker, as it measured itself. `None` where none did.
    pub(crate) fn at_least(&self, pixels: u64, evaluations: u32) -> Option<f64> {
        self.measured.then(|| self.fastest.seconds(pixels) * f64::from(evaluations))
    }

    /// Seconds of one evaluation in a worker that has its part of `used` to do, this picture included.
    fn evaluation(&self, pixels: u64, used: u64) -> f64 {
        let each = used / self.workers.max(1) as u64;
        self.line.seconds(each.clamp(pixels.min(self.largest.max(1)), self.largest.max(pixels)).max(pixels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(batch_pixels: u64, alone: f64, full: f64) -> WorkerSpeed {
        WorkerSpeed { batch_pixels, picture: (100, alone), batch_seconds: full }
    }

    #[test]
    fn two_points_make_a_line() {
        let line = Line::of(&worker(500, 2.0, 6.0)).unwrap();
        assert_eq!((line.seconds(100), line.seconds(500), line.seconds(0)), (2.0, 6.0, 1.0));
        // A batch that is quicker than one picture was disturbed when that was measured.
        let flat = Line::of(&worker(500, 2.0, 1.0)).unwrap();
        assert_eq!((flat.seconds(100), flat.seconds(500)), (2.0, 2.0));
        let single = Line::of(&worker(100, 2.0, 2.0)).unwrap();
        assert_eq!(single.seconds(200), 4.0);
        assert_eq!(Line::of(&worker(500, 0.0, 0.0)), None);
        assert_eq!(Line::of(&worker(500, f64::NAN, 1.0)), None);
    }

    #[test]
    fn the_fleet_is_as_fast_as_its_full_batches() {
        let mut speed = Speed::assumed(0.5);
        assert_eq!((speed.is_measured(), speed.worker_throughput()), (false, 2.0));
        speed.set_workers(&[worker(500, 2.0, 5.0), worker(100, 1.0, 1.0)]);
        assert_eq!((speed.capacity(), speed.room(300), speed.room(900)), (600, 300, 500));
        assert_eq!(speed.throughput(), 200.0);
        assert_eq!(speed.worker_throughput(), 100.0);
        speed.set_workers(&[]);
        let known = (speed.capacity(), speed.throughput(), speed.worker_throughput());
        assert_eq!(known, (0, 200.0, 100.0), "what is known of the last ones stays");
    }

    #[test]
    fn a_picture_takes_as_long_as_its_batch() {
        let mut speed = Speed::assumed(1.0);
        speed.set_workers(&[worker(500, 2.0, 6.0)]);
        assert_eq!(speed.expected(100, 10, 0), 20.0);
        assert_eq!(speed.expected(100, 10, 300), 40.0);
        assert_eq!(speed.expected(100, 10, 9000), 60.0);
        assert_eq!(speed.at_least(100, 10), Some(20.0));
        // Larger than a batch: it runs alone.
        assert_eq!(speed.expected(1000, 1, 500), 11.0);
    }

    #[test]
    fn what_was_told_is_corrected_by_what_pictures_took() {
        let mut speed = Speed::assumed(1.0);
        speed.set_workers(&[worker(500, 2.0, 6.0)]);
        speed.measure(100, 10, 0, 40.0);
        assert_eq!(speed.expected(100, 10, 0), 40.0);
        speed.measure(100, 10, 0, f64::NAN);
        speed.measure(100, 0, 0, 1.0);
        assert_eq!(speed.expected(100, 10, 0), 40.0);
        assert_eq!(speed.at_least(100, 10), Some(20.0));

        let mut blind = Speed::assumed(1.0);
        blind.set_workers(&[worker(500, 0.0, 0.0)]);
        assert_eq!((blind.throughput(), blind.at_least(1, 1)), (1.0, None));
        blind.measure(100, 1, 100, 50.0);
        assert_eq!((blind.throughput(), blind.is_measured()), (2.0, true));
    }
}
