//! `darkroom up`: the whole fleet on this machine, a process for each service.

mod fleet;
mod plan;
mod probe;
mod worker;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::txt2img::Precision;
use fleet::Fleet;

/// The flags of `darkroom up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A diffusers folder, a .safetensors or a .ckpt file. Without it: the embedded pocket model.
    #[arg(long, visible_alias = "ckpt", value_name = "PATH")]
    pub(crate) model: Option<String>,
    /// How many denoisers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) denoisers: u16,
    /// What computes: cpu, cuda:N or metal.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// The arithmetic: f32, bf16, f16 or auto; full is f32 and autocast is auto.
    #[arg(long, value_name = "TYPE")]
    pub(crate) precision: Option<Precision>,
    /// CPU threads of each service; without it, all cores.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Take the averaged (EMA) weights of a .ckpt that holds both.
    #[arg(long)]
    pub(crate) ema: bool,
    /// A folder of textual inversions: each file's name, or the word in it, then stands for it in prompts.
    #[arg(long, visible_alias = "embeddings-dir", value_name = "DIR")]
    pub(crate) textual_inversions: Option<PathBuf>,
    /// A folder of LoRAs (.safetensors) that requests can name.
    #[arg(long, visible_alias = "lora-dir", value_name = "DIR")]
    pub(crate) loras: Option<PathBuf>,
    /// The orchestrator's port. The text encoder, the VAE and the denoisers take the next ones, HTTP is 1000 above each.
    #[arg(long, value_name = "PORT", default_value_t = 7000, value_parser = clap::value_parser!(u16).range(1..=64_000))]
    pub(crate) port_base: u16,
    /// What the services log: error, warn, info, debug or trace.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log_level: String,
}

/// Starts the fleet, says when it is ready, and keeps it until a signal or the end of one of its services.
pub(crate) async fn run(flags: Flags) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let plan = plan::plan(&flags);
    plan::check_ports(&plan)?;
    let mut fleet = Fleet::start(&plan)?;

    let ended = match interrupts.unless(fleet.ready()).await {
        Some(Ok(())) => {
            println!("{}", plan::ready_line(&plan));
            interrupts.unless(fleet.first_end()).await
        }
        Some(Err(ended)) => Some(ended),
        None => None,
    };
    if let Some(ended) = &ended {
        eprintln!("darkroom: {ended}, stopping the other services");
    }
    // A second signal does not wait for running requests.
    let drained = interrupts.unless(fleet.drain()).await;
    match (ended, drained) {
        (None, Some(Ok(()))) => Ok(()),
        (None, Some(Err(ended))) | (Some(ended), Some(_)) => Err(anyhow::anyhow!("the fleet stopped: {ended}").into()),
        (_, None) => {
            fleet.kill().await;
            Err(Failure::Interrupted)
        }
    }
}
