//! What clients may make grow, in a whole fleet: nobody who does as he should is disturbed by it.

use std::net::SocketAddr;

use darkroom_client::Event;
use darkroom_proto::v1::GetInfoRequest;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_service_kit::{ServerConfig, channel};
use testkit::fleet::{Fleet, Service};
use testkit::program::{self, Program};
use testkit::scrape::{Scrape, http_get};
use testkit::wait;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_stream::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::asking::endless;

/// The beginning of every HTTP/2 connection: the preface, and settings that say nothing.
const HANDSHAKE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const CLOSED: &str = "darkroom_connections_closed_total";

/// Connections that get somewhere between nothing and a handshake, and say no more.
async fn silent(addr: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(addr).await?;
        // The server may have closed it already.
        _ = stream.write_all(&HANDSHAKE[..[0, 5, HANDSHAKE.len()][number % 3]]).await;
        streams.push(stream);
    }
    Ok(streams)
}

fn hasty(server: &mut ServerConfig) {
    (server.handshake_seconds, server.idle_seconds) = (1, 1);
    server.max_connections = 32;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_calls_go_on_beside_connections_that_are_closed() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_pocket_model()
        .orchestrator(|config| hasty(&mut config.server))
        .denoiser(|config| hasty(&mut config.server))
        .start()
        .await?;
    let client = fleet.client().await?;
    let mut generation = client.generate(endless("a red circle on a white background")).await?;
    let mut health = HealthClient::new(fleet.channel(Service::Orchestrator)?);
    let mut watch = health.watch(HealthCheckRequest::default()).await?.into_inner();
    watch.next().await.transpose()?;

    let mut hostile = Vec::new();
    for service in [Service::Orchestrator, Service::Denoiser] {
        hostile.extend(silent(fleet.address(service)?, 100).await?);
        for reason in ["displaced", "handshake", "idle"] {
            fleet.metric_reaches(service, CLOSED, &[("port", "grpc"), ("reason", reason)], 1.0).await?;
        }
        assert_eq!(fleet.metrics(service).await?.sum(CLOSED, &[("reason", "stalled")]), 0.0);
    }
    // After all that the picture is still being drawn, and has never changed its denoiser.
    let latest = fleet.metrics(Service::Denoiser).await?.sum("darkroom_steps_total", &[]);
    fleet.metric_reaches(Service::Denoiser, "darkroom_steps_total", &[], latest + 1.0).await?;
    wait::within("a step", async {
        while !matches!(generation.next().await.transpose()?, Some(Event::Step(step)) if f64::from(step.step) >= latest)
        {
        }
        Ok(())
    })
    .await?;
    assert_eq!(fleet.metrics(Service::Orchestrator).await?.sum("darkroom_resumes_total", &[]), 0.0);
    drop(generation);
    // The watch is open, and hears of the end.
    fleet.stop(Service::Orchestrator).await?;
    let last = wait::within("the end of a watch", async { Ok(watch.next().await.transpose()?) }).await?;
    assert_eq!(last.map(|health| health.status), Some(2));
    Ok(())
}

/// A shell sets the limit, as whoever runs a service would.
const WITH_FEW_FILES: &str = "ulimit -n 64; exec \"$0\" \"$@\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_runs_out_of_files_serves_who_wants_something() -> anyhow::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", WITH_FEW_FILES]).arg(program::path("darkroom-vae")?).kill_on_drop(true);
    command.args([
        "--grpc-addr",
        "127.0.0.1:0",
        "--http-addr",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--threads",
        "1",
    ]);
    let vae = Program::start(&mut command)?;
    let warned = |line: &str| line.contains("64 open files are allowed").then_some(());
    vae.stderr("a warning", warned).await?;
    let addresses = vae.addresses().await?;
    vae.ready().await?;

    let hostile = silent(addresses.grpc, 200).await?;
    let mut client = VaeClient::new(channel::lazy(&addresses.grpc.to_string())?);
    wait::within("an answer", async { Ok(client.get_info(GetInfoRequest {}).await?) }).await?;
    let (_, page) = http_get(addresses.http, "/metrics").await?;
    assert!(Scrape::parse(&page)?.sum(CLOSED, &[("reason", "displaced")]) > 100.0, "{page}");
    drop(hostile);
    Ok(())
}
