//! Each service alone as its own process on its own port, and how it ends.

use darkroom_client::{Client, Event};
use testkit::fleet::Service;
use testkit::program::{Addresses, Program, command, output};
use testkit::scrape::http_get;
use testkit::wait;
use tokio_stream::StreamExt as _;

use crate::asking::{image, small};

const PROMPT: &str = "a red circle on a white background";

/// Four processes.
struct Fleet {
    /// In the order of `Service::STAGES`: text encoder, denoiser, VAE.
    stages: Vec<Program>,
    orchestrator: Program,
    addresses: Vec<Addresses>,
}

impl Fleet {
    async fn start() -> anyhow::Result<Self> {
        let (mut stages, mut addresses) = (Vec::new(), Vec::new());
        for stage in Service::STAGES {
            let process = Program::service(stage.program(), &["--threads", "1"])?;
            addresses.push(process.addresses().await?);
            stages.push(process);
        }
        let places: Vec<String> = addresses.iter().map(|addresses| addresses.grpc.to_string()).collect();
        let flags = ["--text-encoders", &places[0], "--denoisers", &places[1], "--vaes", &places[2]];
        let orchestrator = Program::service(Service::Orchestrator.program(), &flags)?;
        addresses.push(orchestrator.addresses().await?);
        orchestrator.ready().await?;
        Ok(Self { stages, orchestrator, addresses })
    }

    async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(self.addresses[3].grpc.to_string()).await?)
    }
}

#[tokio::test]
async fn four_processes_make_a_picture_and_end_well() -> anyhow::Result<()> {
    let mut fleet = Fleet::start().await?;
    let client = fleet.client().await?;
    image(&client, small(PROMPT)).await?;
    for addresses in &fleet.addresses {
        assert_eq!(http_get(addresses.http, "/readyz").await?, (200, "ready\n".into()));
        assert!(http_get(addresses.http, "/metrics").await?.1.contains("darkroom_build_info"));
    }
    drop(client);
    for process in std::iter::once(&mut fleet.orchestrator).chain(&mut fleet.stages) {
        process.terminate().await?;
        assert_eq!(process.wait().await?.code(), Some(0), "{:?}", process.stderr_lines());
        assert_eq!(process.stdout_lines(), [""; 0], "logs go to standard error");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_outlives_sigterm() -> anyhow::Result<()> {
    let mut fleet = Fleet::start().await?;
    let client = fleet.client().await?;
    let mut generation = client.generate(small(PROMPT).num_inference_steps(200)).await?;
    wait::within("a step", async {
        while !matches!(generation.next().await.transpose()?, None | Some(Event::Step(_))) {}
        Ok(())
    })
    .await?;
    // The two that work on it: the orchestrator needs the others until the picture is there.
    for process in [&fleet.stages[1], &fleet.orchestrator] {
        process.terminate().await?;
    }
    let mut images = 0;
    while let Some(event) = generation.next().await {
        images += usize::from(matches!(event?, Event::Image(_)));
    }
    assert_eq!(images, 1);
    drop((generation, client));
    for process in [&fleet.stages[0], &fleet.stages[2]] {
        process.terminate().await?;
    }
    for process in std::iter::once(&mut fleet.orchestrator).chain(&mut fleet.stages) {
        assert_eq!(process.wait().await?.code(), Some(0), "{:?}", process.stderr_lines());
    }
    Ok(())
}

#[tokio::test]
async fn two_services_cannot_share_a_port() -> anyhow::Result<()> {
    let first = Program::service("darkroom-vae", &[])?;
    let taken = first.addresses().await?.grpc.to_string();
    let flags = ["--grpc-addr", &taken, "--http-addr", "127.0.0.1:0", "--log-level", "error"];
    let second = output(command("darkroom-vae")?.args(flags)).await?;
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr)?;
    for word in ["darkroom-vae: ", "grpc_addr", &taken] {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_names_itself() -> anyhow::Result<()> {
    for service in Service::ALL {
        let flag = output(command(service.program())?.args(["--max-connections", "0"])).await?;
        assert_eq!(flag.status.code(), Some(2), "{}", service.name());
        assert!(String::from_utf8(flag.stderr)?.contains("--max-connections"));

        let variable = output(command(service.program())?.env("DARKROOM_GRPC_ADDR", "nowhere")).await?;
        assert_eq!(variable.status.code(), Some(2), "{}", service.name());
        let message = String::from_utf8(variable.stderr)?;
        assert!(message.contains("grpc_addr") && message.contains("nowhere"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn check_config_prints_what_would_be_used() -> anyhow::Result<()> {
    for service in Service::ALL {
        let mut command = command(service.program())?;
        let flags = ["--drain-grace-seconds", "7", "--check-config"];
        let shown = output(command.args(flags).env("DARKROOM_LOG_LEVEL", "debug")).await?;
        assert!(shown.status.success(), "{}", service.name());
        let shown: toml::Table = String::from_utf8(shown.stdout)?.parse()?;
        assert_eq!(shown["drain_grace_seconds"].as_integer(), Some(7));
        assert_eq!(shown["log_level"].as_str(), Some("debug"));
    }
    Ok(())
}
