//! Sends requests to an orchestrator as a trace says, and prints what came of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use darkroom_proto::v1::{OutputFormat, Priority};
use testkit::load::arrivals::{Arrival, Draw, Shape, priority_named};
use testkit::load::asking::{Target, Wish, closed, open};
use testkit::load::figures::{Figures, Window};
use testkit::load::files;
use testkit::load::usage::{Watch, usage};

/// Sends requests when they are due, whatever became of those before (or, with --clients, one after the other), and prints figures.
#[derive(Parser)]
struct Flags {
    /// An orchestrator, or with --direct a clock's denoiser.
    address: String,
    /// When requests come: steady, poisson, burst:FACTOR:SECONDS, wave:PERIOD or file:PATH (seconds, identity, priority, side, steps).
    #[arg(long, default_value = "poisson")]
    trace: Shape,
    /// Requests a second, on average.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// How long requests come.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds at the beginning that do not count.
    #[arg(long, default_value_t = 0.0)]
    warm_up: f64,
    /// Seconds after the last arrival in which answers may come.
    #[arg(long, default_value_t = 30.0)]
    grace: f64,
    /// Of the trace's random numbers. Left out: a new one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// This many clients ask again as soon as they have their answer, in place of a trace.
    #[arg(long, value_name = "N", conflicts_with_all = ["trace", "rate", "hold"])]
    clients: Option<usize>,
    /// This many requests come in the first third of the time, and are held for the rest of it and then cancelled.
    #[arg(long, value_name = "N", conflicts_with_all = ["trace", "rate"])]
    hold: Option<u32>,
    /// Callers, each with an API key of its own.
    #[arg(long, default_value_t = 1)]
    identities: usize,
    /// Each caller's part of the requests. Left out: the same.
    #[arg(long, value_name = "X,…", value_delimiter = ',')]
    shares: Vec<f64>,
    /// What each caller is due. Left out: the same.
    #[arg(long, value_name = "X,…", value_delimiter = ',')]
    weights: Vec<f64>,
    /// Priorities and their parts: low:1,normal:8,high:1.
    #[arg(long, value_name = "NAME:X,…", value_delimiter = ',', default_value = "normal:1")]
    priority: Vec<String>,
    /// Sides in pixels and their parts: 128:3,256:1.
    #[arg(long, value_name = "PIXELS:X,…", value_delimiter = ',', default_value = "128:1")]
    size: Vec<String>,
    /// Of the sampler.
    #[arg(long, default_value_t = 4)]
    steps: u32,
    /// By its name.
    #[arg(long, default_value = "ddim")]
    sampler: String,
    /// 1 leaves the negative prompt out.
    #[arg(long, default_value_t = 2.0)]
    guidance_scale: f64,
    /// Different prompts, which take turns.
    #[arg(long, default_value_t = 8)]
    prompts: u64,
    /// Asks for PNG files, not for latents.
    #[arg(long)]
    png: bool,
    /// Previews with every n-th step; 0: none.
    #[arg(long, default_value_t = 0)]
    preview_every: u32,
    /// Seconds of each call's deadline.
    #[arg(long)]
    deadline: Option<f64>,
    /// Seconds within which an answer is good.
    #[arg(long)]
    good_within: Option<f64>,
    /// Connections, which take turns. A server takes 256 calls at once on each by default; more wait here.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Asks a clock's denoiser itself.
    #[arg(long)]
    direct: bool,
    /// Latents must be those of the clock's denoisers.
    #[arg(long)]
    check_latents: bool,
    /// Latents say what the clock counted (clock-fleet --tell-spent).
    #[arg(long)]
    read_spent: bool,
    /// A process to look at meanwhile.
    #[arg(long)]
    pid: Option<u32>,
    /// Writes the figures to this file too; - is standard output, with nothing else.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Flags {
    fn wish(&self, seed: u64) -> Wish {
        Wish {
            prompts: self.prompts,
            sampler: self.sampler.clone(),
            guidance_scale: self.guidance_scale,
            format: if self.png { OutputFormat::Png } else { OutputFormat::Latents },
            preview_every: self.preview_every,
            deadline: self.deadline.map(Duration::from_secs_f64),
            check_latents: self.check_latents,
            read_spent: self.read_spent,
            api_keys: self.identities > 1,
            first_seed: seed,
        }
    }

    fn draw(&self, seed: u64) -> anyhow::Result<Draw> {
        let held = self.hold.map(|count| f64::from(count) / (self.seconds / 3.0));
        Ok(Draw {
            shape: if held.is_some() { Shape::Steady } else { self.trace.clone() },
            rate: held.unwrap_or(self.rate),
            seconds: if held.is_some() { self.seconds / 3.0 } else { self.seconds },
            shares: padded(&self.shares, self.identities),
            priorities: parts(&self.priority, priority_named)?,
            sides: parts(&self.size, |side| Ok(side.parse()?))?,
            steps: self.steps,
            seed,
        })
    }
}

/// As many numbers as there are identities, 1 where none is given.
fn padded(given: &[f64], count: usize) -> Vec<f64> {
    given.iter().copied().chain(std::iter::repeat(1.0)).take(count.max(1)).collect()
}

fn parts<T>(words: &[String], read: impl Fn(&str) -> anyhow::Result<T>) -> anyhow::Result<Vec<(T, f64)>> {
    let part = |word: &String| {
        let (name, part) = word.split_once(':').unwrap_or((word, "1"));
        Ok((read(name).with_context(|| word.clone())?, part.parse().with_context(|| word.clone())?))
    };
    words.iter().map(part).collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    _ = files::raise_limit();
    let seed = flags.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("seed {seed}");
    let draw = flags.draw(seed)?;
    let target = Target::connect(&flags.address, flags.connections, flags.wish(seed), flags.direct).await?;
    let watch = flags.pid.map(Watch::start);
    let (begun, before) = (Instant::now(), usage(std::process::id())?);
    let seconds = Duration::from_secs_f64(flags.seconds);
    let outcomes = if let Some(clients) = flags.clients {
        let side = draw.sides.first().map_or(128, |(side, _)| *side);
        let priority = draw.priorities.first().map_or(Priority::Normal, |(priority, _)| *priority);
        let like = Arrival { at: Duration::ZERO, identity: 0, priority, side, steps: flags.steps };
        closed(&target, clients, like, seconds).await?
    } else {
        let grace = if flags.hold.is_some() { 0.0 } else { flags.grace };
        open(&target, draw.trace()?, seconds, Duration::from_secs_f64(grace)).await?
    };
    let window = Window { from: Duration::from_secs_f64(flags.warm_up), to: seconds };
    let good_within = flags.good_within.map_or(Duration::MAX, Duration::from_secs_f64);
    let weights = padded(&flags.weights, flags.identities);
    let mut figures = Figures::of(&outcomes, window, &weights, good_within);
    let after = usage(std::process::id())?;
    figures.generator = (after.processor - before.processor) / begun.elapsed().as_secs_f64();
    if let Some(watch) = watch {
        figures.usage = watch.stop().await;
    }
    match flags.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", serde_json::to_string(&figures)?),
        Some(path) => {
            std::fs::write(&path, serde_json::to_string_pretty(&figures)?)
                .with_context(|| path.display().to_string())?;
            print!("{figures}");
        }
        None => print!("{figures}"),
    }
    Ok(())
}
