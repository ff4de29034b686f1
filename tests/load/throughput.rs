//! Pictures a minute from one fleet: asked for one after the other, and by many clients at once.
//!
//! Every service runs in this process, with the embedded model, over loopback gRPC. Rounds of both kinds take turns, so that a noisy
//! machine disturbs both; ratios are taken within a round.

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use darkroom_client::{Client, Event, GenerateRequest};
use testkit::fleet::{Fleet, Service};
use testkit::scrape::Scrape;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

const PROMPT: &str = "a large yellow star on a blue background";
const BATCH_SIZE: &str = "darkroom_batch_size";

/// Measures pictures a minute, one at a time and by many clients at once.
#[derive(Parser)]
struct Arguments {
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Pictures that each asks for, one after the other.
    #[arg(long, default_value_t = 4)]
    pictures: u64,
    /// Denoising steps of a picture: the model's default where left out.
    #[arg(long)]
    steps: Option<u32>,
    /// How often both are measured.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let fleet = Fleet::with_pocket_model().start().await?;
    // Whatever happens once happens before the clock starts.
    picture(&fleet.client().await?, 0, arguments.steps).await?;
    let (alone, together) = ((1, arguments.clients * arguments.pictures), (arguments.clients, arguments.pictures));
    println!(
        "| round | one at a time, pictures a minute | {} clients | ratio | pictures in an evaluation |",
        together.0
    );
    println!("| --- | --- | --- | --- | --- |");
    for round in 1..=arguments.rounds {
        let (single, _) = rate(&fleet, alone, arguments.steps).await?;
        let (many, sizes) = rate(&fleet, together, arguments.steps).await?;
        println!("| {round} | {single:.0} | {many:.0} | {:.2} | {sizes} |", many / single);
    }
    Ok(())
}

/// Pictures a minute when each of `clients` asks for `pictures`, and how many shared an evaluation.
async fn rate(fleet: &Fleet, (clients, pictures): (u64, u64), steps: Option<u32>) -> Result<(f64, String)> {
    let before = fleet.metrics(Service::Denoiser).await?;
    let mut asking = JoinSet::new();
    for number in 0..clients {
        asking.spawn(asks(fleet.client().await?, number * pictures..(number + 1) * pictures, steps));
    }
    let begun = Instant::now();
    while let Some(done) = asking.join_next().await {
        done??;
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let after = fleet.metrics(Service::Denoiser).await?;
    Ok(((clients * pictures) as f64 / minutes, sizes(&before, &after)))
}

async fn asks(client: Client, seeds: std::ops::Range<u64>, steps: Option<u32>) -> Result<()> {
    for seed in seeds {
        picture(&client, seed, steps).await?;
    }
    Ok(())
}

async fn picture(client: &Client, seed: u64, steps: Option<u32>) -> Result<()> {
    let mut request = GenerateRequest::new(PROMPT).seed(seed);
    if let Some(steps) = steps {
        request = request.num_inference_steps(steps);
    }
    let mut generation = client.generate(request).await?;
    while let Some(event) = generation.next().await {
        if let Event::Image(_) = event? {
            return Ok(());
        }
    }
    anyhow::bail!("the request of seed {seed} ended without a picture")
}

/// The share of evaluations by how many pictures they were for, from the histogram's buckets, and the mean.
fn sizes(before: &Scrape, after: &Scrape) -> String {
    let grown = |suffix: &str, labels: &[(&str, &str)]| {
        let name = format!("{BATCH_SIZE}_{suffix}");
        after.sum(&name, labels) - before.sum(&name, labels)
    };
    let count = grown("count", &[]);
    let bucket = format!("{BATCH_SIZE}_bucket");
    let limits =
        after.samples.iter().filter(|sample| sample.name == bucket).filter_map(|sample| sample.labels.get("le"));
    let (mut seen, mut parts) = (0.0, vec![format!("mean {:.1}", grown("sum", &[]) / count)]);
    for limit in limits {
        let within = grown("bucket", &[("le", limit)]);
        if within > seen {
            parts.push(format!("to {limit}: {:.0} %", 100.0 * (within - seen) / count));
        }
        seen = within;
    }
    parts.join(", ")
}
