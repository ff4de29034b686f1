//! `darkroom top`: a fleet at work, again and again.

mod frame;
mod rates;
mod screen;

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::server::ServerFlags;
use super::span::span;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::txt2img::print;
use frame::Frame;
use screen::Screen;

pub(super) const EXAMPLES: &str = "\
Columns; on a narrow terminal some are left out:
  RUN    what runs there: pictures of a denoiser's batch, calls elsewhere
  WAIT   pictures that wait for a place in the batch
  BATCH  how much of the batch's budget of latent pixels is taken
  STEP   time of an evaluation, smoothed
  LEFT   time until all of that is done
  SEEN   how long ago the worker last answered the orchestrator

Examples:
  darkroom top
      a fleet of this machine (darkroom up)
  darkroom top --server http://darkroom:7000 --interval 10s
  darkroom top --interval 1m --count 60 >> fleet.log
      an hour, a block of lines a minute

Exit codes:
  0  --count is reached, or Ctrl-C
  1  the server's first answer was an error
  2  wrong usage
  4  nobody answers at first; later it is asked again and again";

/// The flags of `darkroom top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    server: ServerFlags,
    /// Time between two looks: seconds, or with s, m or h behind the number.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = pause)]
    interval: Duration,
    /// Looks before it ends. Without it, until Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// A shorter one would be a load of its own.
fn pause(text: &str) -> Result<Duration, String> {
    span(text).and_then(|pause| {
        if pause >= Duration::from_millis(100) { Ok(pause) } else { Err("allowed is 0.1s at least".into()) }
    })
}

/// Looks until it has looked often enough, or until a signal.
pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    match interrupts.unless(watch(&flags)).await {
        Some(outcome) => outcome,
        // How people leave it.
        None => Ok(()),
    }
}

async fn watch(flags: &Flags) -> Result<(), Failure> {
    let server = &flags.server;
    let client = server.connect().await?;
    let mut frame = Frame::new(&server.server, client.server_info().await.map_err(|error| server.failure(error))?);
    let mut screen = Screen::open()?;
    let mut looks = interval(flags.interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is over.
    looks.tick().await;
    for look in 1.. {
        match &mut screen {
            Some(screen) => screen.draw(&frame)?,
            // A line between two blocks.
            None => print(format!("{}\n", frame.lines(None, None).join("\n")))?,
        }
        if flags.count == Some(look) {
            break;
        }
        looks.tick().await;
        frame.look(client.server_info().await, Instant::now().into_std());
    }
    Ok(())
}
