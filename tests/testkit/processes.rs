//! A fleet of real processes, several of a kind, each of which a test can kill, freeze, tell to leave and start again where it
//! was.

use std::net::SocketAddr;

use anyhow::Context as _;
use darkroom_client::Client;

use crate::fleet::Service;
use crate::program::{Addresses, Program};
use crate::scrape::{Scrape, http_get};
use crate::wait;

/// One process of a stage.
pub struct Member {
    /// Its kind.
    pub stage: Service,
    /// Where it listens, every time it is started.
    pub addresses: Addresses,
    /// The process that runs now, or ran last.
    pub program: Program,
    /// Of its command line, besides where it listens.
    flags: Vec<String>,
}

/// Processes of all four kinds. Dropping it kills them.
pub struct Processes {
    members: Vec<Member>,
    orchestrator: Program,
    orchestrator_addresses: Addresses,
}

impl Processes {
    /// Starts so many of each stage, in the order of [`Service::STAGES`], each with one thread, and an orchestrator with
    /// `flags`; waits until it has found them all.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(counts: [usize; 3], flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(counts, &[], flags).await
    }

    /// As [`Processes::start`], where every process has the flags `all`.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start_with(counts: [usize; 3], all: &[&str], flags: &[&str]) -> anyhow::Result<Self> {
        let stage_flags: Vec<String> = [STAGE_FLAGS, all].concat().into_iter().map(str::to_owned).collect();
        let mut members = Vec::new();
        for (stage, count) in Service::STAGES.into_iter().zip(counts) {
            for _ in 0..count {
                let program = Program::service(stage.program(), &texts(&stage_flags))?;
                let addresses = program.addresses().await?;
                members.push(Member { stage, addresses, program, flags: stage_flags.clone() });
            }
        }
        let list = |stage| {
            let of_stage = members.iter().filter(|member| member.stage == stage);
            of_stage.map(|member| member.addresses.grpc.to_string()).collect::<Vec<_>>().join(",")
        };
        let lists = Service::STAGES.map(list);
        let stages = ["--text-encoders", &lists[0], "--denoisers", &lists[1], "--vaes", &lists[2]];
        let orchestrator = Program::service(Service::Orchestrator.program(), &[&stages, all, flags].concat())?;
        let orchestrator_addresses = orchestrator.addresses().await?;
        let processes = Self { members, orchestrator, orchestrator_addresses };
        processes.sees_workers(counts.iter().sum()).await?;
        Ok(processes)
    }

    /// A client of the orchestrator.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(self.orchestrator_addresses.grpc.to_string()).await?)
    }

    /// Where the orchestrator takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.orchestrator_addresses.grpc
    }

    /// The n-th process of a stage.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn member(&mut self, stage: Service, n: usize) -> anyhow::Result<&mut Member> {
        let found = self.members.iter_mut().filter(|member| member.stage == stage).nth(n);
        found.with_context(|| format!("there is no {} number {n}", stage.name()))
    }

    /// Waits until the orchestrator has found so many workers ready, in all.
    ///
    /// # Errors
    /// When it does not find them.
    pub async fn sees_workers(&self, count: usize) -> anyhow::Result<()> {
        let client = self.client().await?;
        wait::until(&format!("{count} ready workers"), async || {
            let ready = client.server_info().await?.workers.iter().filter(|worker| worker.ready).count();
            Ok((ready == count).then_some(()))
        })
        .await
    }

    /// What the orchestrator counts now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<Scrape> {
        scrape(self.orchestrator_addresses.http).await
    }

    /// Tells all that still run to leave, the orchestrator first, and waits until they have.
    ///
    /// # Errors
    /// When one has ended already, or ends badly.
    pub async fn leave(&mut self) -> anyhow::Result<()> {
        for program in std::iter::once(&mut self.orchestrator).chain(self.members.iter_mut().map(|m| &mut m.program)) {
            program.terminate().await?;
            let status = program.wait().await?;
            anyhow::ensure!(status.success(), "a process ended with {status}: {}", program.stderr_lines().join("\n"));
        }
        Ok(())
    }

    /// The orchestrator's process.
    pub fn orchestrator(&mut self) -> &mut Program {
        &mut self.orchestrator
    }
}

impl Member {
    /// Kills it with -9, and waits until it is gone.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.signal("KILL").await?;
        self.program.wait().await.map(drop)
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.program = Program::service_at(self.stage.program(), self.addresses, &texts(&self.flags))?;
        Ok(())
    }

    /// What it counts now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<Scrape> {
        scrape(self.addresses.http).await
    }
}

/// Several processes share a machine, and the model is small: more threads would only get in each other's way.
const STAGE_FLAGS: &[&str] = &["--threads", "1"];

fn texts(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

async fn scrape(http: SocketAddr) -> anyhow::Result<Scrape> {
    let (code, page) = http_get(http, "/metrics").await?;
    anyhow::ensure!(code == 200, "/metrics answers {code}: {page}");
    Scrape::parse(&page)
}
