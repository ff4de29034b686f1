//! What is refused, with which code and which details: wrong fields, a full queue, stages that are away or do not fit.

use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{GenerateRequest, GetServerInfoRequest, ListModelsRequest};
use tonic::Code;
use tonic_types::StatusExt;

use super::fleet::{Fleet, kinds, next, request};
use crate::ModelTable;

fn long() -> GenerateRequest {
    GenerateRequest { num_inference_steps: Some(1000), ..request() }
}

#[tokio::test]
async fn a_wrong_field_is_named_in_the_details() {
    let fleet = Fleet::start().await;
    let (_, status) = fleet.all(GenerateRequest { width: Some(500), ..request() }).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "width");
    assert_eq!(status.message(), "width: 500 is not allowed, it must be a multiple of 8 from 64 to 512");
}

#[tokio::test]
async fn a_name_that_runs_with_other_content_is_refused() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let named = GenerateRequest { request_id: "mine".into(), ..long() };
    let _running = fleet.generate(named.clone()).await.unwrap();
    let status = fleet.generate(GenerateRequest { seed: Some(43), ..named }).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().starts_with("request_id: \"mine\" runs with other content"), "{status:?}");
}

#[tokio::test]
async fn the_queue_tells_positions_and_refuses_what_is_too_much() {
    let fleet = Fleet::with(|config| config.queue_limit = 1).await;
    fleet.set_step_time(Duration::from_millis(20));
    // The denoiser takes two pictures at once.
    let mut running = fleet.generate(GenerateRequest { num_images: Some(2), ..long() }).await.unwrap();
    while !matches!(next(&mut running).await, Event::Step(_)) {}
    let mut waiting = fleet.generate(request()).await.unwrap();
    let Event::Queued(queued) = next(&mut waiting).await else { panic!("no place was told") };
    assert_eq!(queued.position, 0);
    let info = fleet.client.clone().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.queue_depth, 1);

    let status = fleet.generate(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(retry >= Duration::from_secs(1), "{retry:?}");

    drop(running);
    assert!(matches!(next(&mut waiting).await, Event::Started(_)));
}

#[tokio::test]
async fn a_stage_that_is_down_is_named_at_once() {
    let fleet = Fleet::start().await;
    let Fleet { behaviour, text_encoder, denoiser, vae, orchestrator, client } = fleet;
    let address = vae.grpc_addr;
    vae.drain().await.unwrap();
    let mut generate = client.clone();
    let status = loop {
        match generate.generate(request()).await {
            Err(status) => break status,
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with(&format!("vae: no worker is ready: {address} (")), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().metadata["stage"], "vae");
    assert_eq!(client.clone().list_models(ListModelsRequest {}).await.unwrap_err().code(), Code::Unavailable);
    assert!(!orchestrator.readiness().is_ready());
    drop((behaviour, text_encoder, denoiser));
}

#[tokio::test]
async fn a_worker_that_dies_and_leaves_nobody_is_named() {
    let fleet = Fleet::with(|config| config.recovery_wait_seconds = 0).await;
    fleet.set_step_time(Duration::from_millis(20));
    let mut stream = fleet.generate(long()).await.unwrap();
    while !matches!(next(&mut stream).await, Event::Step(_)) {}
    let Fleet { behaviour, text_encoder, denoiser, vae, orchestrator, client } = fleet;
    drop(denoiser);
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().starts_with("denoiser: 127.0.0.1:"), "{status:?}");
    drop((behaviour, text_encoder, vae, orchestrator, client));
}

#[tokio::test]
async fn a_stage_that_hangs_is_given_up() {
    let fleet = Fleet::with(|config| {
        config.no_worker_wait_seconds = 20;
        config.text_timeout_seconds = 1;
        config.denoise_stall_seconds = 1;
        config.max_tries = 2;
    })
    .await;
    *fleet.behaviour.text_time.lock().unwrap() = Duration::from_secs(600);
    let (_, status) = fleet.all(request()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    let address = fleet.text_encoder.grpc_addr;
    assert_eq!(
        status.message(),
        format!("text_encoder: {address} did not answer within 1 s; given up after 2 tries: max_tries are used up")
    );

    *fleet.behaviour.text_time.lock().unwrap() = Duration::ZERO;
    fleet.set_step_time(Duration::from_secs(600));
    let (_, status) = fleet.all(request()).await;
    let message = status.unwrap().message().to_owned();
    assert!(
        message.starts_with(&format!("denoiser: {} has said nothing for 1.", fleet.denoiser.grpc_addr)),
        "{message}"
    );
    assert!(message.ends_with("given up after 2 tries: max_tries are used up"), "{message}");
}

#[tokio::test]
async fn requests_may_wait_for_a_worker() {
    let fleet = Fleet::unready(|config| config.no_worker_wait_seconds = 20).await;
    let (events, status) = fleet.all(request()).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(kinds(&events).last(), Some(&"completed"));
}

#[tokio::test]
async fn parts_of_different_models_are_refused() {
    let fleet = Fleet::start().await;
    *fleet.behaviour.vae_channels.lock().unwrap() = Some(16);
    fleet.eventually("the misfit", |fleet| !fleet.orchestrator.readiness().is_ready()).await;
    let (_, status) = fleet.all(request()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("vae: it takes latents of 16 channels, the denoiser makes 4"), "{status:?}");
}

#[tokio::test]
async fn addresses_are_checked_at_the_start() {
    for (change, message) in [
        (
            (|config| config.vaes = Vec::new()) as fn(&mut crate::Config),
            "vaes is empty, name at least one worker's address",
        ),
        (|config| config.denoisers = vec!["a b".into()], "denoisers: \"a b\" is no address"),
        (
            |config| {
                let (text_encoders, vaes) = (None, Some(Vec::new()));
                config.model.push(ModelTable { name: "m".into(), denoisers: vec!["d:1".into()], text_encoders, vaes });
            },
            "model \"m\": vaes is empty, name at least one worker's address",
        ),
    ] {
        let mut config =
            crate::Config { server: darkroom_service_kit::ServerConfig::on_port(0), ..crate::Config::default() };
        change(&mut config);
        let error = format!("{:#}", crate::start(config).await.err().unwrap());
        assert!(error.starts_with(message), "{error}");
    }
}
