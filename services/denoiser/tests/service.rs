//! The denoiser with the embedded model, called over gRPC.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::time::Duration;

use darkroom_denoiser::{Config, start};
use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::{DenoiseFinished, DenoiseRequest, DenoiseStep, GetInfoRequest, GetLoadRequest, Tensor};
use darkroom_service_kit::{ServerConfig, ServiceHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const TOKENS: usize = 77;
const WIDTH: usize = 96;

async fn connect(handle: &ServiceHandle) -> DenoiserClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", handle.grpc_addr)).unwrap();
    DenoiserClient::new(endpoint.connect().await.unwrap())
}

async fn serve_with(config: Config) -> (ServiceHandle, DenoiserClient<Channel>) {
    let handle = start(Config { server: ServerConfig::on_port(0), ..config }).await.unwrap();
    handle.ready().await.unwrap();
    let client = connect(&handle).await;
    (handle, client)
}

async fn serve() -> (ServiceHandle, DenoiserClient<Channel>) {
    serve_with(Config::default()).await
}

fn embeds(salt: f32) -> Option<Tensor> {
    let values: Vec<f32> = (0..TOKENS * WIDTH).map(|i| (i as f32 * 0.13 + salt).sin()).collect();
    Some(Tensor::from_f32(&[TOKENS, WIDTH], &values))
}

fn request(seed: u64, steps: u32) -> DenoiseRequest {
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
    }
}

/// Evaluations, steps and the end of a call.
async fn denoise(
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
            Some(Event::Finished(finished)) => return Ok((accepted.evaluations, steps, finished)),
            event => panic!("{event:?} before the end"),
        }
    }
}

/// The value of a metric on the service's HTTP port.
async fn metric(handle: &ServiceHandle, name: &str) -> f64 {
    let mut socket = tokio::net::TcpStream::connect(handle.http_addr).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_stream_tells_acceptance_steps_previews_and_latents() {
    let (handle, mut client) = serve().await;
    let info = client.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.latent_channels, info.cross_attention_dim, info.latent_multiple), (4, WIDTH as u32, 1));
    assert_eq!(info.samplers, ["plms", "ddim", "dpmpp_2m", "euler", "euler_a", "heun", "dpm2", "unipc"]);
    let defaults = info.defaults.unwrap();
    assert_eq!((defaults.guidance_scale, defaults.width, defaults.sampler.as_str()), (2.0, 128, "plms"));

    let asked = DenoiseRequest { preview_every: 2, ..request(1, 5) };
    let (evaluations, steps, finished) = denoise(&mut client, asked).await.unwrap();
    assert_eq!(evaluations, 6, "PLMS evaluates its second step twice");
    assert_eq!(steps.iter().map(|step| (step.step, step.of)).collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(|n| (n, 5)));
    for step in steps {
        assert_eq!(step.preview.is_some(), step.step % 2 == 0);
        if let Some(preview) = step.preview {
            TensorView::new(&preview, "preview").unwrap().expect_shape(&[8, 12, 3]).unwrap().as_u8().unwrap();
        }
    }
    let view = TensorView::required(finished.latents.as_ref(), "latents").unwrap();
    view.expect_shape(&[4, 8, 12]).unwrap().to_f32().unwrap();
    assert!(finished.seconds > 0.0 && finished.queue_seconds >= 0.0);
    assert_eq!(metric(&handle, "darkroom_steps_total").await, 6.0);
    assert_eq!(metric(&handle, "darkroom_model_info{").await, 1.0);
    handle.drain().await.unwrap();
}

/// One request of every kind: all samplers, with and without guidance and eta, of different lengths.
fn kinds() -> Vec<DenoiseRequest> {
    let kinds = [
        ("plms", 2.0),
        ("ddim", 7.5),
        ("dpmpp_2m", 1.0),
        ("euler", 3.0),
        ("euler_a", 1.0),
        ("ddim", 0.0),
        ("heun", 1.5),
        ("dpm2", 1.0),
        ("unipc", 4.0),
    ];
    let kind = |((sampler, guidance_scale), seed): ((&str, f64), u64)| DenoiseRequest {
        sampler: sampler.to_owned(),
        guidance_scale,
        negative_prompt_embeds: if guidance_scale == 1.0 { None } else { embeds(0.0) },
        eta: if sampler == "ddim" { 0.5 } else { 0.0 },
        ..request(seed, 10 + seed as u32)
    };
    kinds.into_iter().zip(1..).map(kind).collect()
}

#[tokio::test]
async fn requests_of_all_kinds_share_batches_and_get_the_bytes_they_get_alone() {
    let (handle, mut client) = serve().await;
    let mut alone = Vec::new();
    for request in kinds() {
        alone.push(denoise(&mut client, request).await.unwrap().2.latents);
    }
    let batches = async || {
        let (sum, count) = ("darkroom_batch_size_sum", "darkroom_batch_size_count");
        (metric(&handle, sum).await, metric(&handle, count).await)
    };
    let (pictures, calls) = batches().await;
    assert_eq!(pictures, calls, "one picture at a time");

    let run = |request| {
        let mut client = client.clone();
        tokio::spawn(async move { denoise(&mut client, request).await.unwrap().2.latents })
    };
    let runs: Vec<_> = kinds().into_iter().map(run).collect();
    for (run, alone) in runs.into_iter().zip(alone) {
        assert_eq!(run.await.unwrap(), alone);
    }
    let (pictures, calls) = batches().await;
    assert!(pictures > calls, "{pictures} pictures in {calls} calls of the UNet: none was shared");
}

#[tokio::test]
async fn a_dropped_stream_stops_within_one_evaluation() {
    let (handle, mut client) = serve().await;
    let mut stream = client.denoise(request(1, 1000)).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap();
    let Some(Event::Accepted(accepted)) = first.event else { panic!("{first:?}") };
    stream.next().await.unwrap().unwrap();
    drop(stream);
    until("the slot is free", async || {
        let mut client = client.clone();
        let load = client.get_load(GetLoadRequest {}).await.unwrap().into_inner();
        load.running + load.waiting == 0
    })
    .await;
    let wasted = metric(&handle, r#"darkroom_wasted_steps_total{reason="cancelled"}"#).await;
    let computed = metric(&handle, "darkroom_steps_total").await;
    assert_eq!(wasted, computed);
    assert!(wasted >= 1.0 && wasted < f64::from(accepted.evaluations), "{wasted}");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_has_begun() {
    let (handle, mut client) = serve().await;
    let mut call = Request::new(DenoiseRequest { latent_height: 32, latent_width: 32, ..request(1, 1000) });
    call.set_timeout(Duration::from_millis(300));
    let status = denoise(&mut client, call).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    until("the work is counted as wasted", async || {
        metric(&handle, r#"darkroom_wasted_steps_total{reason="deadline"}"#).await > 0.0
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_delay() {
    let (_handle, client) = serve_with(Config { max_batch: 1, queue_limit: 1, ..Config::default() }).await;
    let mut streams = Vec::new();
    let refused = loop {
        assert!(streams.len() < 3, "one runs, one waits, the third is refused");
        match client.clone().denoise(request(1, 1000)).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                stream.next().await.unwrap().unwrap();
                if streams.is_empty() {
                    // Its first step: it has left the queue.
                    stream.next().await.unwrap().unwrap();
                }
                streams.push(stream);
            }
            Err(status) => break status,
        }
    };
    assert_eq!(streams.len(), 2);
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "denoiser: all 1 places in the queue are taken; try again later");
    assert!(!refused.details().is_empty(), "a retry delay");
}

#[tokio::test]
async fn refusals_name_the_field_the_value_and_the_range() {
    let (_handle, mut client) = serve().await;
    let base = || request(1, 5);
    let narrow = Some(Tensor::from_f32(&[77, 95], &[0.0; 77 * 95]));
    let short = Some(Tensor::from_f32(&[76, 96], &[0.0; 76 * 96]));
    let nan = Some(Tensor::from_f32(&[1, 96], &[f32::NAN; 96]));
    let cases = [
        (DenoiseRequest { latent_height: 0, ..base() }, "latent_height: 0 is not in 1 to 256"),
        (DenoiseRequest { latent_width: 12_500, ..base() }, "latent_width: 12500 is not in 1 to 256"),
        (
            DenoiseRequest { sampler: "lms".into(), ..base() },
            "sampler: \"lms\" is not one of plms, ddim, dpmpp_2m, euler, euler_a, heun, dpm2, unipc",
        ),
        (DenoiseRequest { num_inference_steps: 0, ..base() }, "num_inference_steps: 0 is not in 1 to 1000"),
        (DenoiseRequest { num_inference_steps: 100_000, ..base() }, "num_inference_steps: 100000 is not in 1 to 1000"),
        (DenoiseRequest { guidance_scale: f64::NAN, ..base() }, "guidance_scale: NaN is not in 0 to 50"),
        (DenoiseRequest { guidance_scale: 50.5, ..base() }, "guidance_scale: 50.5 is not in 0 to 50"),
        (DenoiseRequest { eta: -0.1, ..base() }, "eta: -0.1 is not in 0 to 1"),
        (
            DenoiseRequest { eta: 0.5, ..base() },
            "eta: eta is 0.5, but the sampler plms has none: leave it 0 or use ddim",
        ),
        (DenoiseRequest { prompt_embeds: None, ..base() }, "prompt_embeds: no tensor was sent"),
        (
            DenoiseRequest { prompt_embeds: narrow, ..base() },
            "prompt_embeds: the shape [77, 95] is not [1 to 1024 tokens, 96]",
        ),
        (
            DenoiseRequest { negative_prompt_embeds: short, ..base() },
            "negative_prompt_embeds: expected the shape [77, 96], found [76, 96]",
        ),
        (
            DenoiseRequest { prompt_embeds: nan, guidance_scale: 1.0, negative_prompt_embeds: None, ..base() },
            "prompt_embeds: element 0 is NaN, every element must be finite",
        ),
        (
            DenoiseRequest { negative_prompt_embeds: None, ..base() },
            "negative_prompt_embeds: guidance_scale 2 needs them; only exactly 1 does not",
        ),
        (
            DenoiseRequest { guidance_scale: 1.0, ..base() },
            "negative_prompt_embeds: they are not used at guidance_scale 1; leave them out",
        ),
    ];
    for (request, message) in cases {
        let status = denoise(&mut client, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
}

#[tokio::test]
async fn a_drain_finishes_what_runs() {
    let (handle, mut client) = serve().await;
    let running = tokio::spawn({
        let mut client = client.clone();
        async move { denoise(&mut client, request(1, 60)).await }
    });
    until("it runs", async || client.get_load(GetLoadRequest {}).await.unwrap().into_inner().running == 1).await;
    handle.drain().await.unwrap();
    let (_, steps, _) = running.await.unwrap().unwrap();
    assert_eq!(steps.last().map(|step| step.step), Some(60));
}
