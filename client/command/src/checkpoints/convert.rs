//! `darkroom convert`: a model in another layout.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use darkroom_models::convert::{ConvertError, ConvertOptions, Converted, convert};

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::txt2img::print;

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A diffusers folder, a .safetensors or a .ckpt file, or "pocket" for the embedded model.
    source: String,
    /// Where to: a name that ends in .safetensors is a single file with CompVis' names, any other a diffusers folder.
    target: PathBuf,
    /// Round the weights to half precision (f16); a value that has none there is an error. A safety checker keeps its own.
    #[arg(long)]
    half: bool,
    /// Take the averaged (EMA) weights of a .ckpt that holds both.
    #[arg(long)]
    ema: bool,
}

/// Converts, and says what was left out. Ctrl-C ends it before the next tensor and leaves nothing behind.
pub(crate) fn run(flags: Flags) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = tokio::task::spawn_blocking({
            let stop = Arc::clone(&stop);
            move || work(&flags, &stop)
        });
        match interrupts.unless(&mut work).await {
            Some(outcome) => outcome.context("the conversion broke off")?,
            None => {
                stop.store(true, Ordering::Relaxed);
                interrupts.exit_on_next();
                work.await.context("the conversion broke off")?
            }
        }
    })
}

fn work(flags: &Flags, stop: &AtomicBool) -> Result<(), Failure> {
    let options = ConvertOptions { half: flags.half, ema: flags.ema };
    let Converted { tensors, bytes, left_out } =
        convert(&flags.source, &flags.target, options, stop).map_err(failure)?;
    for left in left_out {
        eprintln!("darkroom: left out: {left}");
    }
    eprintln!("{tensors} tensors, {:.1} MB", bytes as f64 / 1e6);
    print(flags.target.display())
}

/// A target that cannot be is wrong usage.
fn failure(error: ConvertError) -> Failure {
    match error {
        ConvertError::Exists(_) | ConvertError::Target { .. } => Failure::Usage(format!("TARGET: {error}")),
        ConvertError::Stopped => Failure::Interrupted,
        error => Failure::Failed(error.into()),
    }
}
