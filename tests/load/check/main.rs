//! Starts a fleet, an orchestrator and a generator as processes, and holds the figures of named scenarios against their bounds.

mod latency;
mod overload;
mod peers;
mod stand;
mod streams;
mod table;
mod throughput;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use testkit::load::files;

use table::Table;

/// Runs scenarios and prints a table for each; fails when a bound is missed. The programs must be built: cargo build --release.
#[derive(Parser)]
struct Flags {
    /// What to run; all where none is named.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Seconds of each main run.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Of the traces.
    #[arg(long, default_value_t = 20_261_126)]
    seed: u64,
    /// Further flags for the orchestrator, in one word, in place of a scenario's own of the same name: "--queue-limit=64 --check-interval-ms=500".
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    orchestrator: String,
    /// Denoisers in the clock's fleet, in place of each scenario's own number. Their pace is kept, so capacity changes.
    #[arg(long)]
    denoisers: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Twice as much as the fleet can do.
    Overload,
    /// The most that gets through the orchestrator.
    Throughput,
    /// The same with 50 evaluations a request.
    #[value(name = "evaluations-50")]
    Evaluations50,
    /// Ten thousand requests that wait at once.
    Streams,
    /// What the orchestrator adds at half load.
    Latency,
    /// What a waiting request takes.
    Memory,
    /// Ten thousand connections that never get on, with room for all of them.
    SlowPeers,
    /// The same with the bounds that an orchestrator has by itself.
    TooManySlowPeers,
    /// The same when they come again at once.
    PeerFlood,
    /// One caller asks for eight times as much as others.
    Fairness,
    /// Twice as much as the embedded model can do.
    PocketOverload,
}

/// What all scenarios share.
struct Setting {
    seconds: f64,
    seed: u64,
    orchestrator: Vec<String>,
    denoisers: Option<u16>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let flags = Flags::parse();
    // The children inherit it.
    _ = files::raise_limit();
    let scenarios = if flags.scenarios.is_empty() { Scenario::value_variants() } else { &flags.scenarios };
    let setting = Setting {
        seconds: flags.seconds,
        seed: flags.seed,
        orchestrator: flags.orchestrator.split_whitespace().map(String::from).collect(),
        denoisers: flags.denoisers,
    };
    let mut holds = true;
    for scenario in scenarios {
        let table = run(*scenario, &setting).await?;
        println!("{table}");
        holds &= table.holds();
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(scenario: Scenario, setting: &Setting) -> anyhow::Result<Table> {
    match scenario {
        Scenario::Overload => overload::clocks(setting).await,
        Scenario::Fairness => overload::fairness(setting).await,
        Scenario::PocketOverload => overload::pocket(setting).await,
        Scenario::Throughput => throughput::run(setting, 4).await,
        Scenario::Evaluations50 => throughput::run(setting, 50).await,
        Scenario::Streams => streams::streams(setting).await,
        Scenario::Memory => streams::memory(setting).await,
        Scenario::Latency => latency::run(setting).await,
        Scenario::SlowPeers => peers::roomy(setting).await,
        Scenario::TooManySlowPeers => peers::usual(setting).await,
        Scenario::PeerFlood => peers::flood(setting).await,
    }
}
