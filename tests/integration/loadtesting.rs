//! `darkroom loadtest` against clocks in place of models, and against a server that answers when the test says so.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use darkroom_client::load::Percentiles;
use darkroom_proto::v1;
use darkroom_proto::v1::generate_event::Event as Message;
use darkroom_proto::v1::image_generation_server::{ImageGeneration, ImageGenerationServer};
use serde_json::Value;
use testkit::program::{Program, command};
use testkit::wait;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::clocks::{clocks, orchestrator, orchestrator_with};
use crate::command::{Run, assert_success, darkroom};

async fn loadtest(server: SocketAddr, flags: &str) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir()?;
    let server = server.to_string();
    let flags: Vec<&str> = ["loadtest", "--server", &server].into_iter().chain(flags.split_whitespace()).collect();
    darkroom(&folder, &flags).await
}

fn object(run: &Run) -> Value {
    let [object] = &run.json()[..] else { panic!("one object: {} {}", run.stdout, run.stderr) };
    object.clone()
}

/// How often a request ended in each way, all ways together being those that were offered.
fn ends(report: &Value) -> [u64; 6] {
    let of = |name: &str| report["requests"][name].as_u64().unwrap_or_else(|| panic!("{name} of {report}"));
    let ends = ["offered", "completed", "refused", "failed", "cut", "unsent"].map(of);
    assert_eq!(ends[0], ends[1..].iter().sum::<u64>(), "{report}");
    ends
}

fn seconds(report: &Value, of: &str) -> Percentiles {
    let found = &report["seconds_of"][of];
    let percentiles: Percentiles =
        serde_json::from_value(found.clone()).unwrap_or_else(|error| panic!("{of}: {error}"));
    let Percentiles { p50, p90, p95, p99, max, .. } = percentiles;
    assert!([p50, p90, p95, p99, max].is_sorted() && p50 >= 0.0, "{of}: {found}");
    percentiles
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_load_is_counted_exactly() -> anyhow::Result<()> {
    let fleet = clocks(2, 64, 0.002).await?;
    let (handle, client) = orchestrator(&fleet).await?;
    let flags = "--rate 3000 --requests 40 --n-samples 2 --steps 5 --sampler ddim --seed 7 --json";
    let run = loadtest(handle.grpc_addr, flags).await?;
    assert_success(&run);
    let report = object(&run);
    assert_eq!(ends(&report), [40, 40, 0, 0, 0, 0]);
    assert_eq!((&report["images"]["made"], &report["images"]["failed"]), (&80.into(), &0.into()));
    assert_eq!(
        (&report["arrivals"], &report["seed"], &report["model"]),
        (&"poisson".into(), &7.into(), &"clock".into())
    );
    let a_minute = report["images"]["per_minute"].as_f64().unwrap_or_default();
    let lasted = report["seconds"].as_f64().unwrap_or_default();
    assert!((a_minute * lasted / 60.0 - 80.0).abs() < 1e-6, "{report}");
    for of in ["latency", "server", "queue", "text_encoder", "denoiser", "vae", "first_event", "late"] {
        assert_eq!(seconds(&report, of).count, 40, "{of}");
    }
    assert_eq!(seconds(&report, "refusal").count, 0);
    // The client's time holds the server's, and that its parts; the clock takes 5 evaluations of 2 ms at least.
    let [latency, server, denoiser] = ["latency", "server", "denoiser"].map(|of| seconds(&report, of));
    assert!(latency.max >= server.max && latency.mean >= server.mean && server.mean >= denoiser.mean, "{report}");
    assert!(denoiser.p50 >= 0.01 && latency.max <= lasted, "{report}");

    let totals = client.server_info().await?.totals;
    assert_eq!((totals.images, totals.steps, totals.admitted_requests, totals.refused_requests), (80, 400, 40, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_load_is_counted_too_and_told_as_a_table() -> anyhow::Result<()> {
    let fleet = clocks(1, 64, 0.001).await?;
    let (handle, client) = orchestrator(&fleet).await?;
    let run = loadtest(handle.grpc_addr, "--concurrency 3 --requests 20 --steps 2 --sampler ddim").await?;
    assert_success(&run);
    assert_eq!(client.server_info().await?.totals.images, 20);
    assert!(
        run.stdout.contains("3 clients") && run.stdout.contains("20 offered: 20 completed, 0 refused"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("images    20, "), "{}", run.stdout);
    for row in ["seconds", "latency", "  queue", "  denoiser", "  VAE", "late"] {
        assert!(run.stdout.lines().any(|line| line.starts_with(row)), "{row} is not in\n{}", run.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_with_their_delays() -> anyhow::Result<()> {
    // One denoiser takes two at once, one may wait, and each takes a second at least.
    let fleet = clocks(1, 64, 0.05).await?;
    let (handle, client) = orchestrator_with(&fleet, |config| config.queue_limit = 1).await?;
    let flags = "--rate 6000 --arrivals constant --requests 30 --steps 20 --sampler ddim --json";
    let run = loadtest(handle.grpc_addr, flags).await?;
    assert_success(&run);
    let report = object(&run);
    let [offered, completed, refused, failed, cut, unsent] = ends(&report);
    assert_eq!((offered, failed, cut, unsent), (30, 0, 0, 0), "{report}");
    assert!(completed >= 3 && refused > 0, "{report}");
    let refusals = &report["refusals"]["RESOURCE_EXHAUSTED"];
    assert_eq!((refusals["count"].as_u64(), refusals["without_delay"].as_u64()), (Some(refused), Some(0)), "{report}");
    let [min, mean, max] =
        ["min", "mean", "max"].map(|part| refusals["retry_seconds"][part].as_f64().unwrap_or(f64::NAN));
    assert!(min > 0.0 && min <= mean && mean <= max, "{report}");
    assert_eq!(
        (seconds(&report, "latency").count, seconds(&report, "refusal").count),
        (completed as usize, refused as usize)
    );
    let totals = client.server_info().await?.totals;
    assert_eq!((totals.admitted_requests, totals.refused_requests, totals.images), (completed, refused, completed));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_keeps_what_there_is() -> anyhow::Result<()> {
    let fleet = clocks(1, 64, 0.01).await?;
    let (handle, client) = orchestrator(&fleet).await?;
    let server = handle.grpc_addr.to_string();
    let flags = ["loadtest", "--server", &server, "--rate", "6000", "--duration", "2h", "--sampler", "ddim", "--json"];
    let mut program = Program::start(command("darkroom")?.args(flags))?;
    wait::until("twenty pictures", async || Ok((client.server_info().await?.totals.images >= 20).then_some(())))
        .await?;
    program.interrupt().await?;
    let status = program.wait().await?;
    assert_eq!(status.code(), Some(130), "{:?}", program.stderr_lines());
    let report: Value = serde_json::from_str(&program.stdout_lines().join("\n"))?;
    let [offered, completed, ..] = ends(&report);
    assert!(report["interrupted"] == true && completed > 0 && offered > completed, "{report}");
    // What was under way was cancelled: nobody waits at the server any more.
    wait::until("an idle fleet", async || {
        let info = client.server_info().await?;
        Ok((info.queue_depth == 0 && info.running_requests == 0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_every_request_ends_the_test() -> anyhow::Result<()> {
    let fleet = clocks(1, 64, 0.001).await?;
    let (handle, _client) = orchestrator(&fleet).await?;
    for (flags, named) in [
        ("--sampler crayons", "--sampler: "),
        ("--model crayons", "--model: the server has clock"),
        ("--steps 0", "--steps"),
    ] {
        let run = loadtest(handle.grpc_addr, &format!("--rate 60 --duration 1h {flags}")).await?;
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{flags}: {}", run.stderr);
        assert!(run.stderr.contains(named), "{flags}: {}", run.stderr);
    }
    Ok(())
}

type Events = Pin<Box<dyn Stream<Item = Result<v1::GenerateEvent, Status>> + Send>>;

/// A server that answers nobody until so many have asked.
struct Slow(Arc<Barrier>);

#[tonic::async_trait]
impl ImageGeneration for Slow {
    type GenerateStream = Events;

    async fn generate(&self, _: Request<v1::GenerateRequest>) -> Result<Response<Events>, Status> {
        self.0.wait().await;
        let event = Some(Message::Completed(v1::Completed { images: 1, ..Default::default() }));
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(v1::GenerateEvent { request_id: "x".into(), event })))))
    }

    async fn list_models(&self, _: Request<v1::ListModelsRequest>) -> Result<Response<v1::ListModelsResponse>, Status> {
        let model = v1::Model { name: "slow".into(), max_images: 1, ..Default::default() };
        Ok(Response::new(v1::ListModelsResponse { models: vec![model] }))
    }

    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(v1::GetServerInfoResponse { ready: true, ..Default::default() }))
    }
}

async fn slow(answers_at: usize) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = ImageGenerationServer::new(Slow(Arc::new(Barrier::new(answers_at))));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_load_keeps_to_its_schedule_while_the_server_is_slow() -> anyhow::Result<()> {
    // Whoever waits for an answer before asking again never gets one.
    let server = slow(40).await?;
    let run = loadtest(server, "--rate 2400 --arrivals constant --requests 40 --json").await?;
    assert_success(&run);
    let report = object(&run);
    assert_eq!(ends(&report), [40, 40, 0, 0, 0, 0]);
    // The first was due 39 gaps of 25 ms before the last, and the server kept it waiting all that time: that is its latency.
    assert!(seconds(&report, "latency").max >= 39.0 * 0.025, "{report}");
    assert!((report["sending_seconds"].as_f64().unwrap_or_default() - 39.0 * 0.025).abs() < 1e-6, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_told_and_what_does_not_end_is_cut() -> anyhow::Result<()> {
    // It never answers.
    let server = slow(1000).await?;
    let flags = "--rate 2400 --arrivals constant --requests 20 --most-running 5 --grace 0.2s --json";
    let run = loadtest(server, flags).await?;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert_eq!(ends(&object(&run)), [20, 0, 0, 0, 5, 15]);
    assert!(run.stderr.ends_with("darkroom: no request was completed\n"), "{}", run.stderr);
    Ok(())
}
