//! Serves a fleet of workers whose model is a clock, until it is told to stop.

use std::time::Duration;

use clap::Parser;
use testkit::load::clock::{ClockFleet, Facts, Pace, Plan};
use testkit::load::files;

/// Plays a fleet of workers with a clock in place of the model. Prints their addresses as a line of JSON, and as an orchestrator's
/// flags.
#[derive(Parser)]
struct Flags {
    /// Denoisers.
    #[arg(long, default_value_t = 1)]
    denoisers: u16,
    /// Text encoders.
    #[arg(long, default_value_t = 1)]
    text_encoders: u16,
    /// VAEs.
    #[arg(long, default_value_t = 1)]
    vaes: u16,
    /// The first of consecutive ports; 0 takes any free ones.
    #[arg(long, default_value_t = 0)]
    first_port: u16,
    /// Seconds of an evaluation, whatever is in it.
    #[arg(long, default_value_t = 0.01)]
    base: f64,
    /// Seconds more for each latent pixel of each row: a guided picture of 128×128 pixels has 512.
    #[arg(long, default_value_t = 0.00001)]
    per_pixel: f64,
    /// Guided pictures of 128×128 pixels that run at once on a denoiser.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Calls that may wait at each worker.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    queue_limit: u32,
    /// Seconds of a call to a text encoder.
    #[arg(long, default_value_t = 0.001)]
    text_seconds: f64,
    /// Seconds of a call to a VAE.
    #[arg(long, default_value_t = 0.001)]
    vae_seconds: f64,
    /// Latents say what the clock counted, for `load --read-spent`.
    #[arg(long)]
    tell_spent: bool,
    /// Ends after so many seconds; 0: when it is told to.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    _ = files::raise_limit();
    let facts = Facts {
        pace: Pace { base: flags.base, per_pixel: flags.per_pixel },
        batch: flags.batch,
        queue_limit: flags.queue_limit,
        text_seconds: flags.text_seconds,
        vae_seconds: flags.vae_seconds,
        tell_spent: flags.tell_spent,
    };
    let plan = Plan {
        facts,
        denoisers: flags.denoisers,
        text_encoders: flags.text_encoders,
        vaes: flags.vaes,
        first_port: flags.first_port,
    };
    let fleet = ClockFleet::start(&plan).await?;
    println!("{}", serde_json::to_string(&fleet.addresses)?);
    println!("{}", fleet.addresses.flags().join(" "));
    let end = async {
        match flags.seconds {
            0 => std::future::pending().await,
            seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = end => {}
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
