//! A real orchestrator in front of clocks as processes, whose denoisers start and stop one by one.

use std::net::{Ipv4Addr, TcpListener};

use darkroom_client::Client;

use super::scene::Machine;
use crate::fleet::Service;
use crate::load::clock;
use crate::program::{self, Addresses, Program};
use crate::scrape::{Scrape, http_get};
use crate::wait;

/// Only what says where it listens and that it is ready.
const LOG: [&str; 2] = ["--log-level", "warn,darkroom_service_kit=info"];

/// Running processes. Dropping it kills them.
pub struct Stand {
    clock: Vec<String>,
    _others: Program,
    orchestrator: Addresses,
    _process: Program,
    /// Denoisers by their place in the orchestrator's list.
    denoisers: Vec<(u16, Option<Program>)>,
}

impl Stand {
    /// A text encoder and a VAE that take no time, and an orchestrator that knows of `places` denoisers, none of which is there. Evaluations
    /// are `speed` times as fast as the machine's.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub async fn start(machine: Machine, speed: f64, places: usize, flags: &[String]) -> anyhow::Result<Self> {
        let facts = machine.facts();
        let (base, per_pixel) = (facts.pace.base / speed, facts.pace.per_pixel / speed);
        let clock = [("base", base), ("per-pixel", per_pixel), ("text-seconds", 0.0), ("vae-seconds", 0.0)];
        let mut clock: Vec<String> = clock.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        clock.push(format!("--batch={}", facts.batch));
        let mut command = program::command("clock-fleet")?;
        let others = Program::start(command.args(&clock).arg("--denoisers=0"))?;
        let known: clock::Addresses =
            others.stdout("the clocks' addresses", |line| serde_json::from_str(line).ok()).await?;
        let ports = free_ports(places)?;
        let addresses = ports.iter().map(|port| (Ipv4Addr::LOCALHOST, *port).into()).collect();
        let lists = clock::Addresses { denoisers: addresses, ..known }.flags();
        // What a denoiser takes before the first was seen is told rightly: it speaks of 2×64×64 latent pixels.
        let assumed = format!("--assumed-step-seconds={}", base + per_pixel * 8192.0);
        let own = [assumed];
        let flags: Vec<&str> =
            LOG.into_iter().chain(lists.iter().chain(&own).chain(flags).map(String::as_str)).collect();
        let process = Program::service(Service::Orchestrator.program(), &flags)?;
        let orchestrator = process.addresses().await?;
        let denoisers = ports.into_iter().map(|port| (port, None)).collect();
        let stand = Self { clock, _others: others, orchestrator, _process: process, denoisers };
        stand.sees("two stages", |metrics| ready(metrics, "text_encoder") + ready(metrics, "vae") >= 2.0).await?;
        Ok(stand)
    }

    /// Where the orchestrator answers.
    #[must_use]
    pub fn address(&self) -> String {
        self.orchestrator.grpc.to_string()
    }

    /// A client of it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(self.address()).await?)
    }

    /// Where its metrics are.
    #[must_use]
    pub fn metrics_address(&self) -> std::net::SocketAddr {
        self.orchestrator.http
    }

    /// What it counts.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<Scrape> {
        scrape(self.orchestrator.http).await
    }

    /// Waits until what it counts is as `condition` has it.
    ///
    /// # Errors
    /// When that never comes.
    pub async fn sees(&self, what: &str, condition: impl Fn(&Scrape) -> bool) -> anyhow::Result<()> {
        wait::until(what, async || Ok(condition(&self.metrics().await?).then_some(()))).await
    }

    /// Starts a denoiser at a free place, and says at which.
    ///
    /// # Errors
    /// When all are taken, or it cannot be started.
    pub async fn start_denoiser(&mut self) -> anyhow::Result<usize> {
        let free = self.denoisers.iter().position(|(_, process)| process.is_none());
        let at = free.ok_or_else(|| anyhow::anyhow!("all {} places are taken", self.denoisers.len()))?;
        let port = self.denoisers[at].0;
        let mut command = program::command("clock-fleet")?;
        command.args(&self.clock).args(["--text-encoders=0", "--vaes=0"]).arg(format!("--first-port={port}"));
        let process = Program::start(&mut command)?;
        process.stdout("the clock's address", |line| line.starts_with('{').then_some(())).await?;
        self.denoisers[at].1 = Some(process);
        Ok(at)
    }

    /// Tells one to leave, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn stop_denoiser(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.denoisers.get_mut(at).and_then(|(_, process)| process.take()) {
            process.terminate().await?;
            process.wait().await?;
        }
        Ok(())
    }
}

/// What an orchestrator counts.
///
/// # Errors
/// When it does not answer.
pub async fn scrape(http: std::net::SocketAddr) -> anyhow::Result<Scrape> {
    let (code, page) = http_get(http, "/metrics").await?;
    anyhow::ensure!(code == 200, "/metrics answers {code}: {page}");
    Scrape::parse(&page)
}

/// Ready workers of a stage.
#[must_use]
pub fn ready(metrics: &Scrape, stage: &str) -> f64 {
    metrics.sum("darkroom_workers", &[("stage", stage), ("state", "ready")])
}

/// Ports that nobody has now.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).map(|at| Ok(at?.port())).collect::<std::io::Result<_>>()?)
}
