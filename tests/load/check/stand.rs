//! The processes of a scenario: workers, an orchestrator in front of them, and generators that come and go.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use darkroom_client::Client;
use testkit::fleet::Service;
use testkit::load::clock::{Addresses, Facts, Pace};
use testkit::load::figures::Figures;
use testkit::load::usage;
use testkit::program::{self, Program};
use testkit::wait;

use super::Setting;

/// Only what says where it listens and that it is ready: a line for every request would be measured too.
const LOG: [&str; 2] = ["--log-level", "warn,darkroom_service_kit=info"];

/// The clock's fleet of a scenario.
pub(crate) struct Clocks {
    pub(crate) denoisers: u16,
    pub(crate) base: f64,
    pub(crate) per_pixel: f64,
    pub(crate) batch: u32,
    pub(crate) tell_spent: bool,
}

impl Clocks {
    /// Requests a second of guided pictures of the default size, as the clock has it.
    pub(crate) fn capacity(&self, evaluations: u32) -> f64 {
        let facts = Facts {
            pace: Pace { base: self.base, per_pixel: self.per_pixel },
            batch: self.batch,
            queue_limit: 1,
            text_seconds: 0.0,
            vae_seconds: 0.0,
            tell_spent: false,
        };
        let one = facts.pace.capacity(facts.budget(), 2 * Facts::SIZE.pixels(), evaluations);
        one * f64::from(self.denoisers)
    }

    fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--denoisers={}", self.denoisers),
            format!("--base={}", self.base),
            format!("--per-pixel={}", self.per_pixel),
            format!("--batch={}", self.batch),
            "--text-encoders=2".into(),
            "--vaes=2".into(),
        ];
        flags.extend(self.tell_spent.then(|| "--tell-spent".into()));
        flags
    }
}

/// Running processes. Dropping it kills them.
pub(crate) struct Stand {
    workers: Vec<Program>,
    pub(crate) denoisers: Vec<String>,
    orchestrator: Program,
    pub(crate) address: String,
    seed: u64,
}

impl Stand {
    /// A fleet of clocks behind an orchestrator with further `flags`.
    pub(crate) async fn clocks(setting: &Setting, clocks: &Clocks, flags: &[&str]) -> anyhow::Result<Self> {
        let fleet = Program::start(program::command("clock-fleet")?.args(clocks.flags()))?;
        let addresses: Addresses =
            fleet.stdout("the fleet's addresses", |line| serde_json::from_str(line).ok()).await?;
        let lists = [&addresses.denoisers, &addresses.text_encoders, &addresses.vaes];
        let count = lists.iter().map(|list| list.len()).sum();
        let denoisers = addresses.denoisers.iter().map(ToString::to_string).collect();
        Self::behind(setting, vec![fleet], denoisers, addresses.flags(), count, flags).await
    }

    /// One of each stage with the embedded model, the denoiser with a flag of its own, and an orchestrator with further `flags`.
    pub(crate) async fn pocket(setting: &Setting, denoiser: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let (mut workers, mut lists) = (Vec::new(), Vec::new());
        for (stage, flag) in Service::STAGES.into_iter().zip(["--text-encoders", "--denoisers", "--vaes"]) {
            let own = (flag == "--denoisers").then_some(denoiser);
            let own: Vec<&str> = LOG.into_iter().chain(own).collect();
            let worker = Program::service(stage.program(), &own)?;
            lists.extend([flag.to_owned(), worker.addresses().await?.grpc.to_string()]);
            workers.push(worker);
        }
        let denoisers = vec![lists[3].clone()];
        Self::behind(setting, workers, denoisers, lists, 3, flags).await
    }

    async fn behind(
        setting: &Setting,
        workers: Vec<Program>,
        denoisers: Vec<String>,
        lists: Vec<String>,
        count: usize,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let given = |flag: &&&str| setting.orchestrator.iter().any(|more| name(more) == name(flag));
        let own = flags.iter().filter(|flag| !given(flag)).copied();
        let lists = lists.iter().chain(&setting.orchestrator).map(String::as_str);
        let flags: Vec<&str> = LOG.into_iter().chain(lists).chain(own).collect();
        let orchestrator = Program::service(Service::Orchestrator.program(), &flags)?;
        let address = orchestrator.addresses().await?.grpc.to_string();
        let client = Client::connect(&address).await?;
        wait::until(&format!("{count} ready workers"), async || {
            let ready = client.server_info().await?.workers.iter().filter(|worker| worker.ready).count();
            Ok((ready == count).then_some(()))
        })
        .await?;
        Ok(Self { workers, denoisers, orchestrator, address, seed: setting.seed })
    }

    /// Runs the generator to its end, looking at the orchestrator meanwhile.
    pub(crate) async fn load(&self, flags: &[String]) -> anyhow::Result<Figures> {
        self.load_at(&self.address, flags).await
    }

    /// The same, against another address.
    pub(crate) async fn load_at(&self, address: &str, flags: &[String]) -> anyhow::Result<Figures> {
        let mut command = program::command("load")?;
        command.arg(address).args([format!("--pid={}", self.orchestrator.id()?), format!("--seed={}", self.seed)]);
        let (begun, machine, ours) = (Instant::now(), usage::machine()?, self.processor()?);
        let output = command.args(["--json=-"]).args(flags).output().await?;
        let seconds = begun.elapsed().as_secs_f64();
        let (machine, ours) = (usage::machine()? - machine, self.processor()? - ours);
        anyhow::ensure!(output.status.success(), "the generator failed: {}", String::from_utf8_lossy(&output.stderr));
        let mut figures: Figures = serde_json::from_slice(&output.stdout).context("the generator's figures")?;
        figures.others = Some(((machine - ours) / seconds - figures.generator).max(0.0));
        eprintln!("load {address} {}\n{figures}", flags.join(" "));
        Ok(figures)
    }

    /// Seconds of processors that all its processes have taken.
    fn processor(&self) -> anyhow::Result<f64> {
        let programs = self.workers.iter().chain([&self.orchestrator]);
        programs.map(|program| Ok(usage::usage(program.id()?)?.processor)).sum()
    }

    /// Whether all processes are still there.
    pub(crate) fn is_whole(&self) -> bool {
        self.orchestrator.id().is_ok() && self.workers.iter().all(|worker| worker.id().is_ok())
    }
}

/// Flags from pairs.
pub(crate) fn flags(pairs: &[(&str, f64)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// A flag without its value.
fn name(flag: &str) -> &str {
    flag.split('=').next().unwrap_or(flag)
}

/// What the queues that a run filled take to run dry.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}
