//! Checkpoints over the wire, and how a denoiser leaves.

use std::time::Duration;

use darkroom_denoiser::Config;
use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use darkroom_proto::v1::{Checkpoint, DenoiseEvent, DenoiseRequest, GetInfoRequest, Tensor};
use darkroom_service_kit::ServerConfig;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel;

use crate::calling::*;

/// All events of a call.
async fn events(client: &mut DenoiserClient<Channel>, request: DenoiseRequest) -> Vec<DenoiseEvent> {
    client.denoise(request).await.unwrap().into_inner().collect::<Result<_, _>>().await.unwrap()
}

fn checkpoints(events: &[DenoiseEvent]) -> Vec<Checkpoint> {
    let of =
        |event: &DenoiseEvent| if let Some(Event::Checkpoint(at)) = &event.event { Some(at.clone()) } else { None };
    events.iter().filter_map(of).collect()
}

fn latents(events: &[DenoiseEvent]) -> Option<Tensor> {
    match events.last().and_then(|event| event.event.clone()) {
        Some(Event::Finished(finished)) => finished.latents,
        event => panic!("{event:?} is no end"),
    }
}

#[tokio::test]
async fn a_request_resumed_at_any_checkpoint_on_another_worker_ends_with_the_same_bytes() {
    let (_one, mut client) = serve().await;
    let (other, mut elsewhere) = serve().await;
    let mut resumed = 0.0;
    for request in kinds() {
        let request = DenoiseRequest { num_inference_steps: 5, ..request };
        let whole = events(&mut client, request.clone()).await;
        let evaluations = match whole[0].event {
            Some(Event::Accepted(accepted)) => accepted.evaluations,
            ref event => panic!("{event:?}"),
        };
        let checkpoints = checkpoints(&whole);
        assert!(!checkpoints.is_empty());
        for checkpoint in checkpoints {
            let at = checkpoint.evaluation;
            let request = DenoiseRequest { resume_from: Some(checkpoint), attempt: 7, ..request.clone() };
            let rest = events(&mut elsewhere, request).await;
            assert_eq!(latents(&rest), latents(&whole), "resumed at {at}");
            assert!(rest.iter().all(|event| event.attempt == 7), "every event carries the attempt");
            let Some(Event::Accepted(accepted)) = rest[0].event else { panic!("{:?}", rest[0]) };
            assert_eq!(accepted.evaluations, evaluations - at);
            resumed += 1.0;
        }
    }
    assert_eq!(metric(&other, r#"darkroom_checkpoints_total{direction="received"}"#).await, resumed);
}

#[tokio::test]
async fn a_request_with_loras_goes_on_elsewhere_with_the_same() {
    let with_loras = || Config { loras: Some(golden_loras()), ..Config::default() };
    let (_one, mut client) = serve_with(with_loras()).await;
    let (_other, mut elsewhere) = serve_with(with_loras()).await;
    let loras = vec![lora("flat", Some(0.5)), lora("every layer", None)];
    let asked = DenoiseRequest { loras, sampler: "euler_a".to_owned(), ..request(1, 5) };
    let whole = events(&mut client, asked.clone()).await;
    let plain = events(&mut client, DenoiseRequest { loras: Vec::new(), ..asked.clone() }).await;
    assert_ne!(latents(&whole), latents(&plain));
    let checkpoints = checkpoints(&whole);
    assert!(!checkpoints.is_empty());
    for checkpoint in checkpoints {
        let at = checkpoint.evaluation;
        let rest = events(&mut elsewhere, DenoiseRequest { resume_from: Some(checkpoint), ..asked.clone() }).await;
        assert_eq!(latents(&rest), latents(&whole), "resumed at {at}");
    }
}

#[tokio::test]
async fn a_checkpoint_that_does_not_fit_is_refused_by_name() {
    let (_handle, mut client) = serve().await;
    let request = DenoiseRequest { sampler: "euler_a".to_owned(), ..request(1, 6) };
    let whole = events(&mut client, request.clone()).await;
    let version = client.get_info(GetInfoRequest {}).await.unwrap().into_inner().plan_version;
    let base = checkpoints(&whole)[0].clone();
    type Change = fn(&mut Checkpoint);
    // Which was the first to be sent depends on how fast things went; one draw of noise an evaluation does not.
    assert_eq!((base.plan_version, base.noise_draws), (version, base.evaluation));
    let draws = format!("resume_from.noise_draws: {} is not {}", base.noise_draws + 1, base.noise_draws);
    let cases: [(Change, Code, &str); 10] = [
        (|c| c.plan_version += 1, Code::FailedPrecondition, "resume_from.plan_version: "),
        (|c| c.evaluation = 6, Code::InvalidArgument, "resume_from.evaluation: 6 is not in 0 to 5"),
        (|c| c.evaluation = u32::MAX, Code::InvalidArgument, "resume_from.evaluation: 4294967295 is not in 0 to 5"),
        (|c| c.noise_draws += 1, Code::InvalidArgument, &draws),
        (|c| c.states.clear(), Code::InvalidArgument, "resume_from.states: 0 were sent"),
        (|c| c.states.push(c.states[0].clone()), Code::InvalidArgument, "resume_from.states: 2 were sent"),
        (
            |c| c.states[0].name = "x".to_owned(),
            Code::InvalidArgument,
            r#"resume_from.states: state 0 is named "x"; expected "latents""#,
        ),
        (|c| c.states[0].tensor = None, Code::InvalidArgument, "resume_from.states: latents: no tensor was sent"),
        (
            |c| c.states[0].tensor = Some(Tensor::from_f32(&[4, 12, 8], &[0.0; 384])),
            Code::InvalidArgument,
            "resume_from.states: latents: expected the shape [4, 8, 12], found [4, 12, 8]",
        ),
        (
            |c| c.states[0].tensor = Some(Tensor::from_f32(&[4, 8, 12], &[f32::INFINITY; 384])),
            Code::InvalidArgument,
            "resume_from.states: latents: element 0 is inf, every element must be finite",
        ),
    ];
    for (change, code, text) in cases {
        let mut checkpoint = base.clone();
        change(&mut checkpoint);
        let request = DenoiseRequest { resume_from: Some(checkpoint), ..request.clone() };
        let status = client.denoise(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().starts_with(text), "{} is not {text}", status.message());
    }
}

#[tokio::test]
async fn a_denoiser_that_leaves_says_where_everything_stands_and_finishes_it_all_the_same() {
    let (handle, mut client) = serve_with(Config { max_batch: Some(1), ..Config::default() }).await;
    let whole = latents(&events(&mut client, request(1, 200)).await);
    let mut running = client.denoise(request(1, 200)).await.unwrap().into_inner();
    let waiting = client.denoise(request(2, 5)).await.unwrap().into_inner();
    while !matches!(running.next().await.unwrap().unwrap().event, Some(Event::Step(_))) {}
    let draining = tokio::spawn(handle.drain());

    let (mut last, mut told, mut end) = (None, false, None);
    while let Some(event) = running.next().await {
        match event.unwrap().event {
            Some(Event::Checkpoint(at)) if !told => last = Some(at),
            Some(Event::Draining(_)) => {
                told = true;
                let refused = client.denoise(request(3, 5)).await.unwrap_err();
                // Refused, or cancelled by its own side: the connection was closed before the call went out.
                assert!(matches!(refused.code(), Code::Unavailable | Code::Cancelled), "{refused:?}");
            }
            Some(Event::Finished(finished)) => end = finished.latents,
            _ => {}
        }
    }
    assert!(told);
    assert_eq!(end, whole, "who keeps listening gets it from here");
    let seen: Vec<_> = waiting.map(|event| event.unwrap().event.unwrap()).collect().await;
    assert!(seen.iter().any(|event| matches!(event, Event::Draining(_))));
    assert!(matches!(seen.last(), Some(Event::Finished(_))));
    draining.await.unwrap().unwrap();

    let (_other, mut elsewhere) = serve().await;
    let rest = events(&mut elsewhere, DenoiseRequest { resume_from: last, attempt: 1, ..request(1, 200) }).await;
    assert_eq!(latents(&rest), whole, "who goes on elsewhere gets the same");
}

#[tokio::test]
async fn what_outlasts_the_grace_ends_with_unavailable() {
    let server = ServerConfig { drain_grace_seconds: 0, ..ServerConfig::on_port(0) };
    let handle = darkroom_denoiser::start(Config { server, ..Config::default() }).await.unwrap();
    handle.ready().await.unwrap();
    let mut client = connect(&handle).await;
    let large = DenoiseRequest { latent_height: 64, latent_width: 64, ..request(1, 1000) };
    let mut stream = client.denoise(large).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    let draining = tokio::spawn(handle.drain());
    let status = loop {
        match stream.next().await.unwrap() {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    tokio::time::timeout(Duration::from_secs(10), draining).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_sleeps_holds_nobody_up() {
    let (handle, client) = serve_with(Config { max_batch: Some(2), ..Config::default() }).await;
    // Larger than the flow-control window after a while, and never read until the other one is done.
    let sleeper = DenoiseRequest { latent_height: 32, latent_width: 32, preview_every: 1, ..request(1, 60) };
    let mut asleep = client.clone().denoise(sleeper.clone()).await.unwrap().into_inner();
    let mut other = connect(&handle).await;
    denoise(&mut other, request(2, 20)).await.unwrap();
    let mut last = None;
    while let Some(event) = asleep.next().await {
        match event.unwrap().event {
            Some(Event::Checkpoint(at)) => {
                assert!(last.is_none_or(|last| last < at.evaluation), "they come in order");
                last = Some(at.evaluation);
            }
            Some(Event::Finished(finished)) => {
                let (_, _, alone) = denoise(&mut other, sleeper).await.unwrap();
                assert_eq!(finished.latents, alone.latents);
                return;
            }
            _ => {}
        }
    }
    panic!("the end was lost")
}
