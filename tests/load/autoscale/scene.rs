//! What is played: a kind of denoiser, a trace of requests, and how replicas are decided on.

use std::time::Duration;

use darkroom_proto::v1::Priority;

use super::controller::Scaling;
use super::pods::Delays;
use super::{hpa, keda};
use crate::load::arrivals::{Arrival, Draw, Shape};
use crate::load::clock::{Facts, Pace};

/// Callers that share the load.
const CALLERS: usize = 20;
/// PLMS evaluates once more than it has steps.
const STEPS: u32 = 50;

/// A kind of denoiser, by what an evaluation takes.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Machine {
    /// 0.08 s for one guided picture, 1.4 times the throughput at four: a GPU of the middle.
    Middle,
    /// 0.025 s and 1.6 times at eight: a large GPU.
    Fast,
    /// 1 s and 1.1 times at two: a small GPU, or many cores.
    Slow,
}

impl Machine {
    /// As a clock's facts. What a picture's size is does not matter, only its time does.
    #[must_use]
    pub fn facts(self) -> Facts {
        let (alone, batch, gain) = match self {
            Self::Middle => (0.08, 4u32, 1.4),
            Self::Fast => (0.025, 8, 1.6),
            Self::Slow => (1.0, 2, 1.1),
        };
        let pixels = (2 * Facts::SIZE.pixels()) as f64;
        let full = alone * f64::from(batch) / gain;
        let per_pixel = (full - alone) / (f64::from(batch - 1) * pixels);
        let pace = Pace { base: alone - per_pixel * pixels, per_pixel };
        Facts { pace, batch, queue_limit: 64, text_seconds: 0.0, vae_seconds: 0.0, tell_spent: false }
    }

    /// Pictures a second of one that is always full.
    #[must_use]
    pub fn capacity(self) -> f64 {
        let facts = self.facts();
        facts.pace.capacity(facts.budget(), 2 * Facts::SIZE.pixels(), STEPS + 1)
    }
}

/// When requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Trace {
    /// At random, as much as four denoisers can do, for six hours.
    Steady,
    /// At random, as much as one can do, and for ten minutes ten times as much, in three hours.
    Burst,
    /// From nothing to as much as eight can do and back, in a day.
    Wave,
}

impl Trace {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Steady, Self::Burst, Self::Wave];

    /// How long requests come.
    #[must_use]
    pub fn seconds(self) -> f64 {
        3600.0
            * match self {
                Self::Steady => 6.0,
                Self::Burst => 3.0,
                Self::Wave => 24.0,
            }
    }

    /// A burst that fits into a few minutes: as much as half a denoiser can do, and ten times as much for an eighth of the time.
    ///
    /// # Errors
    /// As [`Trace::draw`].
    pub fn short(machine: Machine, seconds: Duration, seed: u64) -> anyhow::Result<Vec<Arrival>> {
        let seconds = seconds.as_secs_f64();
        arrivals(Shape::Burst { factor: 10.0, seconds: seconds / 8.0 }, 0.5 * machine.capacity(), seconds, seed)
    }

    /// The requests, of a picture each, for a kind of denoiser.
    ///
    /// # Errors
    /// Never: no file is read.
    pub fn draw(self, machine: Machine, seed: u64) -> anyhow::Result<Vec<Arrival>> {
        let seconds = self.seconds();
        let (shape, denoisers) = match self {
            Self::Steady => (Shape::Poisson, 4.0),
            Self::Burst => (Shape::Burst { factor: 10.0, seconds: 600.0 }, 1.0),
            Self::Wave => (Shape::Wave { period: seconds }, 4.0),
        };
        arrivals(shape, denoisers * machine.capacity(), seconds, seed)
    }
}

fn arrivals(shape: Shape, rate: f64, seconds: f64, seed: u64) -> anyhow::Result<Vec<Arrival>> {
    let draw = Draw {
        shape,
        rate,
        seconds,
        shares: vec![1.0; CALLERS],
        priorities: vec![(Priority::Normal, 1.0)],
        sides: vec![(128, 1.0)],
        steps: STEPS,
        seed,
    };
    draw.trace()
}

/// Everything that a run depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Of the denoisers.
    pub machine: Machine,
    /// Of the requests.
    pub trace: Trace,
    /// Of the replicas.
    pub scaling: Scaling,
    /// Of the cluster.
    pub delays: Delays,
    /// `scrape_interval` of Prometheus.
    pub scrape: Duration,
    /// The orchestrator's `no_worker_wait_seconds`.
    pub no_worker_wait: Duration,
    /// Its `queue_seconds`.
    pub queue_seconds: f64,
    /// Of all that is drawn.
    pub seed: u64,
}

/// Most replicas of every scene.
pub const MOST: u32 = 20;

/// What is chosen among.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Queued seconds for each replica.
    pub threshold: f64,
    /// Of each replica's time so much is to be used by what comes; `None`: the queue is all that counts.
    pub load: Option<f64>,
    /// Seconds of the stabilisation window downwards.
    pub window: u64,
    /// KEDA takes the last one away, too.
    pub to_zero: bool,
}

impl Choice {
    /// What is shipped: see `tests/load/AUTOSCALING.md`.
    pub const SHIPPED: Self = Self { threshold: 20.0, load: Some(0.8), window: 300, to_zero: true };
}

impl Scene {
    /// With what is shipped, apart from what is chosen.
    #[must_use]
    pub fn new(machine: Machine, trace: Trace, seed: u64, choice: Choice) -> Self {
        let Choice { threshold, load, window, to_zero } = choice;
        let targets: Vec<f64> = std::iter::once(threshold).chain(load).collect();
        let mut settings = hpa::Settings::usual(1, MOST, &targets);
        settings.down.window = Duration::from_secs(window);
        let keda = to_zero.then_some(keda::Settings { polling: Duration::from_secs(15), ..keda::Settings::USUAL });
        Self {
            machine,
            trace,
            scaling: Scaling { hpa: settings, keda, load_range: Duration::from_secs(300) },
            delays: Delays::WARM,
            scrape: Duration::from_secs(15),
            no_worker_wait: Duration::from_secs(600),
            queue_seconds: 3600.0,
            seed,
        }
    }

    /// When Prometheus, the autoscaler and, after that, KEDA look for the first time: nobody's looks fall together.
    pub(super) fn first_looks(&self) -> [Duration; 3] {
        [31, 7919, 104_729].map(|part| Duration::from_millis(self.seed.wrapping_mul(part) % 15_000))
    }
}
