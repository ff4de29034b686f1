//! The clock's fleet is a fleet: an orchestrator gets latents of it, and the same ones when a worker is lost on the way.

use std::time::Duration;

use darkroom_client::{Client, Event, GenerateRequest, OutputFormat, Picture};
use darkroom_proto::v1;
use darkroom_proto::v1::Tensor;
use darkroom_proto::v1::denoise_event::Event as Told;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_service_kit::{ServerConfig, ServiceHandle, channel};
use testkit::load::clock::{ClockFleet, Digest, Facts, Pace, Plan, digest, embedding};
use testkit::wait;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_types::StatusExt as _;

const PROMPT: &str = "a red circle";
const STEPS: u32 = 40;
const SEED: u64 = 7;

pub(crate) async fn clocks(denoisers: u16, queue_limit: u32, base: f64) -> anyhow::Result<ClockFleet> {
    let facts = Facts {
        pace: Pace { base, per_pixel: 0.0 },
        batch: 2,
        queue_limit,
        text_seconds: 0.0,
        vae_seconds: 0.0,
        tell_spent: false,
    };
    ClockFleet::start(&Plan { facts, denoisers, text_encoders: 1, vaes: 1, first_port: 0 }).await
}

/// An orchestrator of the clocks that has found them all, and a client of it.
pub(crate) async fn orchestrator(fleet: &ClockFleet) -> anyhow::Result<(ServiceHandle, Client)> {
    orchestrator_with(fleet, |_| ()).await
}

/// The same with other settings.
pub(crate) async fn orchestrator_with(
    fleet: &ClockFleet,
    change: impl FnOnce(&mut darkroom_orchestrator::Config),
) -> anyhow::Result<(ServiceHandle, Client)> {
    let texts = |addresses: &[std::net::SocketAddr]| addresses.iter().map(ToString::to_string).collect();
    let mut config = darkroom_orchestrator::Config {
        server: ServerConfig::on_port(0),
        text_encoders: texts(&fleet.addresses.text_encoders),
        denoisers: texts(&fleet.addresses.denoisers),
        vaes: texts(&fleet.addresses.vaes),
        check_interval_ms: 50,
        ..Default::default()
    };
    change(&mut config);
    let handle = darkroom_orchestrator::start(config).await?;
    wait::within("readiness of the orchestrator", handle.ready()).await?;
    let client = Client::connect(handle.grpc_addr.to_string()).await?;
    wait::until("all workers", async || {
        let ready = client.server_info().await?.workers.iter().filter(|worker| worker.ready).count();
        Ok((ready == fleet.denoisers.len() + 2).then_some(()))
    })
    .await?;
    Ok((handle, client))
}

fn asked() -> GenerateRequest {
    GenerateRequest::new(PROMPT)
        .seed(SEED)
        .sampler("ddim")
        .num_inference_steps(STEPS)
        .output_format(OutputFormat::Latents)
}

fn request() -> v1::DenoiseRequest {
    v1::DenoiseRequest {
        latent_height: 16,
        latent_width: 16,
        prompt_embeds: Some(embedding(PROMPT)),
        negative_prompt_embeds: Some(embedding("")),
        sampler: "ddim".into(),
        num_inference_steps: STEPS,
        guidance_scale: 2.0,
        seed: SEED,
        attempt: 3,
        init: None,
        sigma_spacing: String::new(),
        rng: 0,
        variation: None,
        ..Default::default()
    }
}

fn expected() -> Tensor {
    digest(&request(), Digest::of_text(PROMPT), Some(Digest::of_text(""))).tensor(&[4, 16, 16], None)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_gets_the_latents_however_many_clocks_it_takes() {
    let fleet = clocks(2, 8, 0.02).await.unwrap();
    let (_handle, client) = orchestrator(&fleet).await.unwrap();
    let mut generation = client.generate(asked()).await.unwrap();
    let (mut steps, mut latents) = (Vec::new(), None);
    while let Some(event) = generation.next().await {
        match event.unwrap() {
            Event::Step(step) => {
                // Whoever has the work loses it; only a machine that stood still meanwhile lets it be done already.
                if steps.is_empty()
                    && let Some(working) = fleet.denoisers.iter().find(|denoiser| denoiser.is_working())
                {
                    working.kill();
                }
                steps.push(step.step);
            }
            Event::Image(image) => {
                if let Picture::Latents(found) = image.picture {
                    latents = Some(found);
                }
            }
            _ => {}
        }
    }
    assert!(steps.is_sorted() && steps.last() == Some(&STEPS), "{steps:?}");
    let latents = latents.expect("latents");
    let bytes: Vec<u8> = latents.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(bytes, expected().data);
}

#[tokio::test]
async fn every_checkpoint_leads_to_the_same_latents() {
    let fleet = clocks(1, 8, 0.005).await.unwrap();
    let channel = channel::lazy(&fleet.addresses.denoisers[0].to_string()).unwrap();
    let mut client = DenoiserClient::new(channel);
    let mut checkpoints = vec![None];
    let mut tried = 0;
    while let Some(resume_from) = checkpoints.pop() {
        let from = resume_from.as_ref().map_or(0, |checkpoint: &v1::Checkpoint| checkpoint.evaluation);
        let message = v1::DenoiseRequest { resume_from, ..request() };
        let mut stream = client.denoise(message).await.unwrap().into_inner();
        let (mut last_step, mut latents) = (0, None);
        while let Some(event) = stream.message().await.unwrap() {
            assert_eq!(event.attempt, 3);
            match event.event.unwrap() {
                Told::Accepted(accepted) => assert_eq!(accepted.evaluations, STEPS - from),
                Told::Step(step) => last_step = step.step,
                Told::Checkpoint(checkpoint) if from == 0 && checkpoint.evaluation % 8 == 1 => {
                    checkpoints.push(Some(checkpoint));
                }
                Told::Finished(finished) => latents = finished.latents,
                _ => {}
            }
        }
        assert_eq!((last_step, latents), (STEPS, Some(expected())), "from evaluation {from}");
        tried += 1;
    }
    assert!(tried > 1, "no checkpoint came");
}

#[tokio::test]
async fn a_full_clock_says_when_to_come_again_and_a_dropped_stream_makes_room() {
    let fleet = clocks(1, 1, 0.05).await.unwrap();
    let channel = channel::lazy(&fleet.addresses.denoisers[0].to_string()).unwrap();
    let client = DenoiserClient::new(channel);
    let long = v1::DenoiseRequest { num_inference_steps: 1000, ..request() };
    let begin = async || client.clone().denoise(long.clone()).await.map(tonic::Response::into_inner);
    let mut running = Vec::new();
    let refused = loop {
        match begin().await {
            Ok(mut stream) => {
                // Whoever has a place in the batch hears of a step.
                if running.len() < 2 {
                    while !matches!(stream.message().await.unwrap().unwrap().event, Some(Told::Step(_))) {}
                }
                running.push(stream);
            }
            Err(status) => break status,
        }
    };
    assert_eq!((running.len(), refused.code()), (3, Code::ResourceExhausted), "two run and one waits");
    let delay = refused.get_details_retry_info().and_then(|info| info.retry_delay).unwrap();
    assert!(delay > Duration::ZERO && delay < Duration::from_secs(60), "{delay:?}");
    let mut waiting = running.pop().unwrap();
    running.pop();
    while !matches!(waiting.message().await.unwrap().unwrap().event, Some(Told::Step(_))) {}
    drop(begin().await.expect("the place in the line is free again"));
}
