//! A denoiser with the embedded model, and how tests call it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use darkroom_denoiser::{Config, start};
use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::{DenoiseFinished, DenoiseRequest, DenoiseStep, Lora, Tensor};
use darkroom_samplers::Sampler;
use darkroom_service_kit::{ServerConfig, ServiceHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Status;
use tonic::transport::Channel;

pub(crate) const TOKENS: usize = 77;
pub(crate) const WIDTH: usize = 96;

pub(crate) async fn connect(handle: &ServiceHandle) -> DenoiserClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", handle.grpc_addr)).unwrap();
    DenoiserClient::new(endpoint.connect().await.unwrap())
}

pub(crate) async fn serve_with(config: Config) -> (ServiceHandle, DenoiserClient<Channel>) {
    let handle = start(Config { server: ServerConfig::on_port(0), ..config }).await.unwrap();
    handle.ready().await.unwrap();
    let client = connect(&handle).await;
    (handle, client)
}

pub(crate) async fn serve() -> (ServiceHandle, DenoiserClient<Channel>) {
    serve_with(Config::default()).await
}

/// Embeddings of so many tokens.
pub(crate) fn values(tokens: usize, salt: f32) -> Vec<f32> {
    (0..tokens * WIDTH).map(|i| (i as f32 * 0.13 + salt).sin()).collect()
}

pub(crate) fn embeds(salt: f32) -> Option<Tensor> {
    Some(Tensor::from_f32(&[TOKENS, WIDTH], &values(TOKENS, salt)))
}

pub(crate) fn request(seed: u64, steps: u32) -> DenoiseRequest {
    DenoiseRequest {
        request_id: format!("test-{seed}"),
        latent_height: 8,
        latent_width: 12,
        prompt_embeds: embeds(1.0),
        negative_prompt_embeds: embeds(0.0),
        sampler: "plms".to_owned(),
        num_inference_steps: steps,
        guidance_scale: 2.0,
        eta: 0.0,
        seed,
        preview_every: 0,
        resume_from: None,
        attempt: 0,
        init: None,
        sigma_spacing: String::new(),
        rng: 0,
        variation: None,
        loras: Vec::new(),
    }
}

/// LoRAs of the embedded model.
pub(crate) fn golden_loras() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/loras/files")
}

pub(crate) fn lora(name: &str, weight: Option<f64>) -> Lora {
    Lora { name: name.to_owned(), weight }
}

/// Evaluations, steps and the end of a call.
pub(crate) async fn denoise(
    client: &mut DenoiserClient<Channel>,
    request: impl tonic::IntoRequest<DenoiseRequest>,
) -> Result<(u32, Vec<DenoiseStep>, DenoiseFinished), Status> {
    let mut stream = client.denoise(request).await?.into_inner();
    let Some(Event::Accepted(accepted)) = stream.message().await?.and_then(|message| message.event) else {
        panic!("accepted comes first")
    };
    let mut steps = Vec::new();
    loop {
        match stream.message().await?.and_then(|message| message.event) {
            Some(Event::Step(step)) => steps.push(step),
            Some(Event::Checkpoint(_) | Event::Draining(_)) => {}
            Some(Event::Finished(finished)) => return Ok((accepted.evaluations, steps, finished)),
            event => panic!("{event:?} before the end"),
        }
    }
}

/// The value of a metric on the service's HTTP port.
pub(crate) async fn metric(handle: &ServiceHandle, name: &str) -> f64 {
    let mut socket = tokio::net::TcpStream::connect(handle.http_addr).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// One request of every kind: all samplers at the scales 1 and 7.5, 5 to 50 steps, with and without eta.
pub(crate) fn kinds() -> Vec<DenoiseRequest> {
    let samplers = Sampler::ALL.into_iter().flat_map(|sampler| [(sampler, 1.0), (sampler, 7.5)]);
    let kind = |((sampler, guidance_scale), seed): ((Sampler, f64), u64)| DenoiseRequest {
        sampler: sampler.to_string(),
        guidance_scale,
        negative_prompt_embeds: if guidance_scale == 1.0 { None } else { embeds(0.0) },
        eta: if sampler == Sampler::Ddim { 0.5 } else { 0.0 },
        ..request(seed, 5 + (seed as u32 * 7) % 46)
    };
    samplers.zip(1..).map(kind).collect()
}
