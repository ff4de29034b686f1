//! What people and machines that run Darkroom see: health, probes, reflection, information, limits, drain.

use darkroom_client::{Code, Event};
use darkroom_models::stage::{Device, Precision};
use darkroom_proto::v1;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::text_encoder_client::TextEncoderClient;
use darkroom_proto::v1::vae_client::VaeClient;
use darkroom_service_kit::{ServerConfig, VERSION};
use testkit::fleet::{Fleet, Service};
use testkit::scrape::http_get;
use testkit::wait;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::asking::{image, refusal, small};

const PROMPT: &str = "a red circle on a white background";

async fn health(channel: Channel, service: &str) -> anyhow::Result<ServingStatus> {
    let request = HealthCheckRequest { service: service.into() };
    Ok(HealthClient::new(channel).check(request).await?.into_inner().status())
}

#[tokio::test]
async fn every_service_says_that_it_serves() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    for service in Service::ALL {
        let http = fleet.handle(service)?.http_addr;
        for name in ["", service.grpc_name()] {
            assert_eq!(health(fleet.channel(service)?, name).await?, ServingStatus::Serving, "{}", service.name());
        }
        assert_eq!(http_get(http, "/healthz").await?.0, 200);
        assert_eq!(http_get(http, "/readyz").await?, (200, "ready\n".into()));
        assert_eq!(http_get(http, "/metrics").await?.0, 200);
        assert_eq!(http_get(http, "/elsewhere").await?.0, 404);
    }
    Ok(())
}

#[tokio::test]
async fn the_orchestrator_is_ready_when_its_stages_are() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().without(Service::Vae).start().await?;
    let orchestrator = fleet.handle(Service::Orchestrator)?;
    for name in ["", Service::Orchestrator.grpc_name()] {
        assert_eq!(health(fleet.channel(Service::Orchestrator)?, name).await?, ServingStatus::NotServing);
    }
    wait::until("the reason at /readyz", async || {
        let (code, page) = http_get(orchestrator.http_addr, "/readyz").await?;
        assert_eq!(code, 503, "{page}");
        Ok((page.starts_with("waiting: ") && page.contains("vae")).then_some(()))
    })
    .await?;
    assert_eq!(http_get(orchestrator.http_addr, "/healthz").await?.0, 200);

    // The stage comes late, where the orchestrator looks for it.
    let info = fleet.client().await?.server_info().await?;
    let missing = info.workers.iter().find(|worker| worker.stage == "vae").expect("it is listed");
    assert!(!missing.ready && !missing.problem.is_empty(), "{missing:?}");
    let addr = missing.address.trim_start_matches("http://").parse()?;
    let server = ServerConfig { grpc_addr: addr, ..ServerConfig::on_port(0) };
    let _vae = darkroom_vae::start(darkroom_vae::Config { server, ..Default::default() }).await?;
    wait::within("readiness with the last stage", orchestrator.ready()).await?;
    assert_eq!(http_get(orchestrator.http_addr, "/readyz").await?.0, 200);
    image(&fleet.client().await?, small(PROMPT)).await.map(drop)
}

#[tokio::test]
async fn a_stage_that_comes_back_is_used_again() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let grpc_addr = fleet.address(Service::Denoiser)?;
    image(&client, small(PROMPT)).await?;
    fleet.stop(Service::Denoiser).await?;
    assert_eq!(refusal(&client, small(PROMPT)).await.code(), Code::Unavailable);

    let server = ServerConfig { grpc_addr, ..ServerConfig::on_port(0) };
    let _denoiser = darkroom_denoiser::start(darkroom_denoiser::Config { server, ..Default::default() }).await?;
    wait::until("a picture from the new denoiser", async || Ok(image(&client, small(PROMPT)).await.ok())).await?;
    Ok(())
}

#[tokio::test]
async fn health_follows_a_drain() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_pocket_model().start().await?;
    let request = HealthCheckRequest { service: Service::Vae.grpc_name().into() };
    let mut watch = HealthClient::new(fleet.channel(Service::Vae)?).watch(request).await?.into_inner();
    let first = watch.message().await?.expect("the status now");
    assert_eq!(first.status(), ServingStatus::Serving);
    fleet.stop(Service::Vae).await?;
    let next = wait::within("the next status", async { Ok(watch.message().await?) }).await?;
    assert_eq!(next.expect("the status after the drain began").status(), ServingStatus::NotServing);
    Ok(())
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    for service in Service::ALL {
        let expected = [service.grpc_name(), "grpc.health.v1.Health"];
        for listed in
            [reflection::v1(fleet.channel(service)?).await?, reflection::v1alpha(fleet.channel(service)?).await?]
        {
            for name in expected {
                assert!(listed.iter().any(|found| found == name), "{name} is not in {listed:?}");
            }
            let others = Service::ALL.into_iter().filter(|other| *other != service);
            for other in others {
                assert!(!listed.iter().any(|found| found == other.grpc_name()), "{} in {listed:?}", other.name());
            }
        }
    }
    Ok(())
}

/// `ListServices`, in the two versions of a protocol that differ by their package's name alone.
mod reflection {
    use tonic::transport::Channel;

    macro_rules! version {
        ($version:ident) => {
            pub(super) async fn $version(channel: Channel) -> anyhow::Result<Vec<String>> {
                use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
                use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
                use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
                use tonic_reflection::pb::$version::{ServerReflectionRequest, ServerReflectionResponse};
                let list = MessageRequest::ListServices(String::new());
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
                let mut client = ServerReflectionClient::new(channel);
                let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
                let answer: Option<ServerReflectionResponse> = answers.message().await?;
                match answer.and_then(|answer| answer.message_response) {
                    Some(MessageResponse::ListServicesResponse(list)) => {
                        Ok(list.service.into_iter().map(|service| service.name).collect())
                    }
                    other => anyhow::bail!("no list: {other:?}"),
                }
            }
        };
    }

    version!(v1);
    version!(v1alpha);
}

#[tokio::test]
async fn every_stage_says_what_it_runs() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let question = || v1::GetInfoRequest {};
    let text = TextEncoderClient::new(fleet.channel(Service::TextEncoder)?).get_info(question()).await?.into_inner();
    assert_eq!((text.hidden_size, text.max_tokens, text.num_layers), (96, 77, 3));
    let denoiser = DenoiserClient::new(fleet.channel(Service::Denoiser)?).get_info(question()).await?.into_inner();
    assert_eq!((denoiser.latent_channels, denoiser.cross_attention_dim, denoiser.latent_multiple), (4, 96, 1));
    let vae = VaeClient::new(fleet.channel(Service::Vae)?).get_info(question()).await?.into_inner();
    assert_eq!((vae.latent_channels, vae.factor, vae.max_side), (4, 8, 2048));
    assert_eq!(vae.scaling_factor, 0.836_773_468_582_620_7);

    let precision = Precision::Auto.on(Device::Cpu).to_string();
    let stages = [(Service::TextEncoder, text.stage), (Service::Denoiser, denoiser.stage), (Service::Vae, vae.stage)];
    let mut revisions = Vec::new();
    for (service, stage) in stages {
        let stage = stage.expect("every stage has it");
        assert_eq!(
            (stage.model.as_str(), stage.precision.as_str(), stage.device.as_str()),
            ("pocket", precision.as_str(), "cpu")
        );
        assert_eq!((stage.version.as_str(), stage.queue_limit), (VERSION, 64));
        assert!(stage.revision.len() == 64 && stage.revision.chars().all(|digit| digit.is_ascii_hexdigit()));
        revisions.push((service.name(), stage.revision));
    }

    let info = fleet.client().await?.server_info().await?;
    assert_eq!((info.version.as_str(), info.queue_depth), (VERSION, 0));
    for (stage, revision) in revisions {
        let worker = info.workers.iter().find(|worker| worker.stage == stage).expect(stage);
        assert!(worker.ready && worker.problem.is_empty(), "{worker:?}");
        assert_eq!((worker.model.as_str(), &worker.revision), ("pocket", &revision));
    }
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().vae(|config| config.server.max_message_bytes = 100_000).start().await?;
    let mut vae = VaeClient::new(fleet.channel(Service::Vae)?);
    let decode = |side: usize| v1::DecodeRequest {
        latents: Some(v1::Tensor::from_f32(&[4, side, side], &vec![0.0; 4 * side * side])),
        intermediate: false,
    };
    let status = vae.decode(decode(100)).await.expect_err("160,000 bytes");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
    assert!(status.message().contains("100000"), "{status}");
    vae.decode(decode(8)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_runs() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let mut generation = client.generate(small(PROMPT).num_inference_steps(200)).await?;
    wait::within("a step", async {
        while !matches!(generation.next().await.transpose()?, None | Some(Event::Step(_))) {}
        Ok(())
    })
    .await?;
    let orchestrator = fleet.address(Service::Orchestrator)?;
    let drain = tokio::spawn(fleet.drain());
    let mut images = 0;
    while let Some(event) = generation.next().await {
        images += usize::from(matches!(event?, Event::Image(_)));
    }
    assert_eq!(images, 1);
    // The connection is the last thing that the drain waits for.
    drop((generation, client));
    wait::within("the end of the drain", async { drain.await? }).await?;
    assert!(darkroom_client::Client::connect(orchestrator.to_string()).await.is_err(), "its port is still open");
    Ok(())
}
