//! `darkroom txt2img`, `img2img`, `inpaint` and `sweep`: check everything, start or find a server, make the pictures, save them.

mod flags;
mod grid;
mod grids;
mod init;
mod jobs;
#[cfg(feature = "local")]
mod local;
mod npy;
mod outdir;
mod progress;
mod reference;
mod report;
mod request;
mod session;
mod sweep;

use std::path::Path;
use std::sync::Arc;

use darkroom_client::Client;

use crate::failure::{self, Failure};
use crate::interrupt::Interrupts;
#[cfg(feature = "local")]
pub(crate) use flags::Precision;
pub(crate) use flags::{Flags, Format, PromptFlags, scale, side};
pub(crate) use init::{Img2img, Inpaint, Recipe};
pub(crate) use jobs::prompts;
use outdir::OutDir;
pub(crate) use report::JSON_EVENTS;
use report::Report;
pub(crate) use report::{code_name, print};
use session::Session;
pub(crate) use sweep::Sweep;

/// Makes the pictures that `flags` ask for, as the command's `recipe` says.
pub(crate) async fn run((flags, recipe): (Flags, Recipe)) -> Result<(), Failure> {
    let report = Report::new(flags.output.json);
    let outcome = make(flags, recipe, report).await;
    if let Err(Failure::Client(error)) = &outcome {
        report.failed(error)?;
    }
    outcome
}

async fn make(flags: Flags, recipe: Recipe, report: Report) -> Result<(), Failure> {
    // All that can be wrong on this side is found before anything is computed.
    flags.check()?;
    flags.reference.notes().iter().for_each(|note| eprintln!("darkroom: note: {note}"));
    let prompts = jobs::prompts(&flags.prompt)?;
    let outdir = flags.output.outdir.as_deref().unwrap_or(Path::new(recipe.outdir));
    let outdir = if flags.saves() { Some(Arc::new(OutDir::prepare(outdir)?)) } else { None };
    let mut interrupts = Interrupts::listen()?;

    let Some(server) = interrupts.unless(Server::find(&flags)).await else {
        return Err(Failure::Interrupted);
    };
    let server = server?;
    let session = Session::new(&server.client, &flags, &recipe, &prompts, outdir, report);
    let outcome = session.run(&mut interrupts).await;
    interrupts.exit_on_next();
    server.stop().await;
    outcome
}

/// The server that makes the pictures: a given one, or all services inside this process.
struct Server {
    client: Client,
    #[cfg(feature = "local")]
    local: Option<local::Services>,
}

impl Server {
    #[cfg(feature = "local")]
    async fn find(flags: &Flags) -> Result<Self, Failure> {
        if let Some(address) = &flags.compute.server {
            return Ok(Self { client: connect(address, flags).await?, local: None });
        }
        let local = local::Services::start(&flags.compute).await?;
        Ok(Self { client: Client::connect(local.address()).await?, local: Some(local) })
    }

    #[cfg(not(feature = "local"))]
    async fn find(flags: &Flags) -> Result<Self, Failure> {
        // `Flags::check` has seen to it that there is one.
        let address = flags.compute.server.as_deref().unwrap_or_default();
        Ok(Self { client: connect(address, flags).await? })
    }

    async fn stop(self) {
        #[cfg(feature = "local")]
        if let Some(local) = self.local {
            drop(self.client);
            local.stop().await;
        }
    }
}

async fn connect(address: &str, flags: &Flags) -> Result<Client, Failure> {
    flags.compute.credentials.connect(address).await
}

/// A warning on standard error, named as the flag that it is about.
fn warn(field: &str, message: &str) {
    // The server may name its field itself; a reader knows the flag.
    let message = message.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
    eprintln!("darkroom: warning: {}: {message}", failure::flag(field));
}
