//! When requests come, and whose they are: a trace is drawn before anything is sent, and is the same for the same seed.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use darkroom_client::load::Poisson;
use darkroom_proto::v1::Priority;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The shape of a trace.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// One after the other, always as far apart.
    Steady,
    /// Each by itself, at random.
    Poisson,
    /// At random, `factor` times as many for `seconds`, from a third of the time on.
    Burst {
        /// Times the rate.
        factor: f64,
        /// How long.
        seconds: f64,
    },
    /// At random, between none and twice the rate and back within `period` seconds.
    Wave {
        /// Seconds.
        period: f64,
    },
    /// As a file says, a line each: seconds, identity, priority (low, normal or high), side in pixels, steps.
    File(PathBuf),
}

/// One request to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// From the start.
    pub at: Duration,
    /// Whose it is, from 0.
    pub identity: usize,
    /// As the request says it.
    pub priority: Priority,
    /// Of the picture, in pixels.
    pub side: u32,
    /// Of the sampler.
    pub steps: u32,
}

/// What a trace is drawn from.
#[derive(Clone, Debug)]
pub struct Draw {
    /// When.
    pub shape: Shape,
    /// Requests a second, on average.
    pub rate: f64,
    /// How long.
    pub seconds: f64,
    /// Each identity's part of the requests.
    pub shares: Vec<f64>,
    /// Priorities and their parts.
    pub priorities: Vec<(Priority, f64)>,
    /// Sides in pixels and their parts.
    pub sides: Vec<(u32, f64)>,
    /// Of the sampler.
    pub steps: u32,
    /// Of the random numbers.
    pub seed: u64,
}

impl Draw {
    /// All arrivals, in their order.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn trace(&self) -> anyhow::Result<Vec<Arrival>> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let end = self.seconds;
        let times = match &self.shape {
            Shape::File(path) => {
                let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                return parse(&text);
            }
            Shape::Steady => {
                let count = (self.rate * end).floor() as usize;
                (0..count).map(|index| index as f64 / self.rate).collect()
            }
            Shape::Poisson => thinned(&mut rng, end, self.rate, |_| 1.0),
            Shape::Burst { factor, seconds } => {
                let from = end / 3.0;
                let most = factor.max(1.0);
                let inside = |at: f64| (from..from + seconds).contains(&at);
                thinned(&mut rng, end, self.rate * most, |at| if inside(at) { factor / most } else { 1.0 / most })
            }
            Shape::Wave { period } => {
                let height = |at: f64| (1.0 - (std::f64::consts::TAU * at / period).cos()) / 2.0;
                thinned(&mut rng, end, self.rate * 2.0, height)
            }
        };
        let identities: Vec<(usize, f64)> = self.shares.iter().copied().enumerate().collect();
        let arrival = |at: f64| Arrival {
            at: Duration::from_secs_f64(at),
            identity: pick(&mut rng, &identities).unwrap_or_default(),
            priority: pick(&mut rng, &self.priorities).unwrap_or(Priority::Unspecified),
            side: pick(&mut rng, &self.sides).unwrap_or_default(),
            steps: self.steps,
        };
        Ok(times.into_iter().map(arrival).collect())
    }
}

/// A Poisson process of rate `most` of which each point stays with the chance that `keep` gives it.
fn thinned(rng: &mut StdRng, end: f64, most: f64, keep: impl Fn(f64) -> f64) -> Vec<f64> {
    let (mut process, mut times) = (Poisson::new(most), Vec::new());
    loop {
        let at = process.next(rng);
        if at.is_nan() || at >= end {
            return times;
        }
        if rng.random::<f64>() < keep(at) {
            times.push(at);
        }
    }
}

fn pick<T: Copy>(rng: &mut StdRng, parts: &[(T, f64)]) -> Option<T> {
    let mut left = rng.random::<f64>() * parts.iter().map(|(_, part)| part).sum::<f64>();
    let chosen = parts.iter().find(|(_, part)| {
        left -= part;
        left < 0.0
    });
    chosen.or(parts.last()).map(|(value, _)| *value)
}

fn parse(text: &str) -> anyhow::Result<Vec<Arrival>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let arrivals = lines.map(|line| arrival(line).with_context(|| format!("{line:?} is no arrival")));
    let mut arrivals = arrivals.collect::<anyhow::Result<Vec<_>>>()?;
    arrivals.sort_by_key(|arrival| arrival.at);
    Ok(arrivals)
}

fn arrival(line: &str) -> anyhow::Result<Arrival> {
    let words: Vec<&str> = line.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
    let [at, identity, priority, side, steps] = words[..] else {
        anyhow::bail!("expected seconds, identity, priority, side and steps");
    };
    Ok(Arrival {
        at: Duration::try_from_secs_f64(at.parse()?)?,
        identity: identity.parse()?,
        priority: priority_named(priority)?,
        side: side.parse()?,
        steps: steps.parse()?,
    })
}

/// A priority by its name.
///
/// # Errors
/// For any other name.
pub fn priority_named(name: &str) -> anyhow::Result<Priority> {
    match name {
        "low" => Ok(Priority::Low),
        "normal" => Ok(Priority::Normal),
        "high" => Ok(Priority::High),
        _ => anyhow::bail!("{name:?} is not low, normal or high"),
    }
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let number = |text: &str| -> anyhow::Result<f64> {
            let value: f64 = text.parse().with_context(|| format!("{text:?} is no number"))?;
            anyhow::ensure!(value > 0.0 && value.is_finite(), "{value} is not above 0");
            Ok(value)
        };
        match name {
            "steady" => Ok(Self::Steady),
            "poisson" => Ok(Self::Poisson),
            "burst" => {
                let (factor, seconds) = rest.split_once(':').context("expected burst:FACTOR:SECONDS")?;
                Ok(Self::Burst { factor: number(factor)?, seconds: number(seconds)? })
            }
            "wave" => Ok(Self::Wave { period: number(rest)? }),
            "file" if !rest.is_empty() => Ok(Self::File(rest.into())),
            _ => anyhow::bail!("expected steady, poisson, burst:FACTOR:SECONDS, wave:PERIOD or file:PATH"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(shape: &str, seed: u64) -> Draw {
        Draw {
            shape: shape.parse().unwrap(),
            rate: 100.0,
            seconds: 60.0,
            shares: vec![3.0, 1.0],
            priorities: vec![(Priority::Normal, 1.0)],
            sides: vec![(128, 1.0)],
            steps: 4,
            seed,
        }
    }

    fn times(shape: &str, seed: u64) -> Vec<f64> {
        draw(shape, seed).trace().unwrap().iter().map(|arrival| arrival.at.as_secs_f64()).collect()
    }

    #[test]
    fn steady_arrivals_are_equally_far_apart() {
        let times = times("steady", 1);
        assert_eq!(times.len(), 6000);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0] - 0.01).abs() < 1e-6));
    }

    #[test]
    fn the_same_seed_draws_the_same_trace() {
        assert_eq!(draw("poisson", 7).trace().unwrap(), draw("poisson", 7).trace().unwrap());
        assert_ne!(times("poisson", 7), times("poisson", 8));
    }

    #[test]
    fn random_traces_have_their_rates() {
        // Four standard deviations of a Poisson number.
        let near = |found: usize, expected: f64| (found as f64 - expected).abs() < 4.0 * expected.sqrt();
        for seed in 0..20 {
            let poisson = times("poisson", seed);
            assert!(near(poisson.len(), 6000.0), "seed {seed}: {}", poisson.len());
            let burst = times("burst:5:10", seed);
            let inside = burst.iter().filter(|at| (20.0..30.0).contains(*at)).count();
            assert!(
                near(inside, 5000.0) && near(burst.len() - inside, 5000.0),
                "seed {seed}: {inside} of {}",
                burst.len()
            );
            let wave = times("wave:20", seed);
            let low = wave.iter().filter(|at| *at % 20.0 < 5.0 || *at % 20.0 >= 15.0).count();
            // A quarter of a period to each side of the trough has 1/2 − 1/π of the whole.
            assert!(near(wave.len(), 6000.0) && near(low, 6000.0 * 0.18169), "seed {seed}: {low} of {}", wave.len());
        }
    }

    #[test]
    fn identities_have_their_shares() {
        let trace = draw("steady", 3).trace().unwrap();
        let first = trace.iter().filter(|arrival| arrival.identity == 0).count();
        assert!((4400..4600).contains(&first), "{first} of 6000 are not three quarters");
    }

    #[test]
    fn a_file_is_a_trace() {
        let trace = parse("# seconds identity priority side steps\n1.5 1 high 128 4\n\n0.5, 0, low, 64, 50\n").unwrap();
        let expected = [(0.5, 0, Priority::Low, 64, 50), (1.5, 1, Priority::High, 128, 4)];
        assert_eq!(trace.len(), 2);
        for (arrival, (at, identity, priority, side, steps)) in trace.iter().zip(expected) {
            let at = Duration::from_secs_f64(at);
            assert_eq!(*arrival, Arrival { at, identity, priority, side, steps });
        }
        assert!(format!("{:#}", parse("1 2 3").unwrap_err()).contains("\"1 2 3\" is no arrival"));
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        for wrong in ["", "burst", "burst:2", "burst:-1:3", "wave:0", "file:", "storm"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong:?}");
        }
    }
}
