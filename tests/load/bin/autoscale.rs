//! Plays autoscaling: one scene with its curves, or all settings with the ones that are chosen.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use testkit::load::autoscale::around::Around;
use testkit::load::autoscale::live;
use testkit::load::autoscale::pods::Delays;
use testkit::load::autoscale::scene::{Choice, Machine, Scene, Trace};
use testkit::load::autoscale::sweep::Sweep;
use testkit::load::autoscale::world::{play, play_trace};

/// Plays KEDA's and Kubernetes' decisions on denoisers over the orchestrator's own queue, in time that is told.
#[derive(Parser)]
struct Flags {
    #[command(subcommand)]
    command: Command,
    /// Of all that is drawn.
    #[arg(long, global = true, default_value_t = 20_261_129)]
    seed: u64,
    /// Of the denoisers.
    #[arg(long, global = true, value_enum, default_value_t = Machine::Middle)]
    machine: Machine,
    /// Only two nodes are there; more are made when they are needed, and take minutes.
    #[arg(long, global = true)]
    cold_nodes: bool,
}

#[derive(Subcommand)]
enum Command {
    /// One scene, with its curves.
    Run {
        /// When requests come; all three where none is named.
        #[arg(value_enum)]
        traces: Vec<Trace>,
        #[command(flatten)]
        chosen: Chosen,
        /// Writes the curves to DIR/TRACE.csv.
        #[arg(long, value_name = "DIR")]
        csv: Option<PathBuf>,
    },
    /// A short burst from zero, with real processes and played, side by side.
    Live {
        /// So many times as fast as it is.
        #[arg(long, default_value_t = 4.0)]
        speed: f64,
        /// Of the scene, not of the clock on the wall.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// All settings on all traces, as a table, and the cheapest that hold.
    Sweep,
    /// The shipped settings, changed one by one.
    Around {
        #[command(flatten)]
        chosen: Chosen,
    },
}

/// What is scaled by.
#[derive(Args)]
struct Chosen {
    /// Queued seconds for each replica.
    #[arg(long, default_value_t = Choice::SHIPPED.threshold)]
    queued: f64,
    /// Of each replica's time so much is to be used by what comes; 0: the queue is all that counts.
    #[arg(long, default_value_t = Choice::SHIPPED.load.unwrap_or(0.0))]
    load: f64,
    /// Seconds of the stabilisation window downwards.
    #[arg(long, default_value_t = Choice::SHIPPED.window)]
    window: u64,
    /// An autoscaler without KEDA: one is always left.
    #[arg(long)]
    keep_one: bool,
}

impl Chosen {
    fn choice(&self) -> Choice {
        let load = Some(self.load).filter(|load| *load > 0.0);
        Choice { threshold: self.queued, load, window: self.window, to_zero: !self.keep_one }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let delays = if flags.cold_nodes { Delays::COLD } else { Delays::WARM };
    println!("seed {}", flags.seed);
    match flags.command {
        Command::Run { traces, chosen, csv } => {
            let traces = if traces.is_empty() { Trace::ALL.to_vec() } else { traces };
            for trace in traces {
                let scene = Scene::new(flags.machine, trace, flags.seed, chosen.choice());
                let begun = Instant::now();
                let figures = play(&Scene { delays, ..scene })?;
                eprintln!("played in {:.1} s", begun.elapsed().as_secs_f64());
                println!("{trace:?}: {figures}");
                if let Some(folder) = &csv {
                    let name = format!("{trace:?}.csv").to_lowercase();
                    std::fs::write(folder.join(name), figures.csv())?;
                }
            }
        }
        Command::Live { speed, seconds, chosen } => {
            let seconds = Duration::from_secs(seconds);
            let scene = Scene::new(flags.machine, Trace::Burst, flags.seed, chosen.choice());
            // The orchestrator finds processes by itself.
            let mut scene = Scene { delays: Delays { found: (0.0, 0.0), ..delays }, ..scene };
            let trace = Trace::short(flags.machine, seconds, flags.seed)?;
            let real = live::play(&scene, &trace, seconds, speed).await?;
            scene.delays.found = (0.0, 1.0);
            let played = play_trace(&scene, trace, seconds);
            for (name, wait, figures) in
                [("real", real.mean_wait, &real.figures), ("played", played.wait.mean, &played)]
            {
                let latency = figures.latency;
                println!(
                    "{name}: mean wait {wait:.1} s, latency p50 {:.1} s, p95 {:.1} s, max {:.1} s; {} of {} served",
                    latency.p50, latency.p95, latency.max, latency.count, figures.requests
                );
                println!("{}", figures.curves());
            }
        }
        Command::Around { chosen } => {
            let choice = chosen.choice();
            let scene = |trace| Scene { delays, ..Scene::new(flags.machine, trace, flags.seed, choice) };
            println!("{}", Around::run(scene)?);
        }
        Command::Sweep => {
            let sweep = Sweep::run(flags.machine, delays, flags.seed)?;
            println!("{sweep}");
            for to_zero in [true, false] {
                match sweep.chosen(to_zero) {
                    Some(row) => println!("{:?} costs {:.2} replicas", row.choice, row.cost()),
                    None => println!("none holds, to_zero = {to_zero}"),
                }
            }
        }
    }
    Ok(())
}
