//! What `GetServerInfo` tells those who operate a fleet.

use std::time::{Duration, Instant};

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use darkroom_proto::v1::{
    DenoiserLoad, GenerateRequest, GetLoadResponse, GetServerInfoRequest, GetServerInfoResponse, StageWorker,
};
use tokio::time::sleep;
use tonic::Code;
use tonic::transport::Channel;

use super::fleet::{Fleet, PATIENCE, next, request};

async fn told(client: &ImageGenerationClient<Channel>) -> GetServerInfoResponse {
    client.clone().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner()
}

/// Waits for an answer that is as it should be.
async fn told_until(
    client: &ImageGenerationClient<Channel>,
    what: &str,
    is_so: impl Fn(&GetServerInfoResponse) -> bool,
) -> GetServerInfoResponse {
    let until = Instant::now() + PATIENCE;
    loop {
        let info = told(client).await;
        if is_so(&info) {
            return info;
        }
        assert!(Instant::now() < until, "{what} never came: {info:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn denoiser(info: &GetServerInfoResponse) -> &StageWorker {
    info.workers.iter().find(|worker| worker.stage == "denoiser").unwrap()
}

#[tokio::test]
async fn what_is_done_and_refused_is_counted() {
    let fleet = Fleet::with(|config| config.queue_limit = 1).await;
    let fresh = told(&fleet.client).await;
    assert!(fresh.ready && fresh.problem.is_empty() && fresh.uptime_seconds > 0.0, "{fresh:?}");
    assert_eq!((fresh.images_total, fresh.steps_total, fresh.admitted_requests_total), (0, 0, 0));

    let (_, status) =
        fleet.all(GenerateRequest { num_images: Some(2), num_inference_steps: Some(4), ..request() }).await;
    assert!(status.is_none(), "{status:?}");
    let info = told(&fleet.client).await;
    assert_eq!((info.images_total, info.failed_images_total, info.steps_total), (2, 0, 8));
    assert_eq!((info.admitted_requests_total, info.refused_requests_total), (1, 0));

    // The denoiser takes two pictures at once; one request may wait.
    fleet.set_step_time(Duration::from_millis(20));
    let long = GenerateRequest { num_images: Some(2), num_inference_steps: Some(1000), ..request() };
    let mut running = fleet.generate(long).await.unwrap();
    while !matches!(next(&mut running).await, Event::Step(_)) {}
    let _waiting = fleet.generate(request()).await.unwrap();
    assert_eq!(fleet.generate(request()).await.unwrap_err().code(), Code::ResourceExhausted);
    // What is not in order is nobody's want of room.
    let wrong = GenerateRequest { width: Some(65), ..request() };
    assert_eq!(fleet.generate(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    let info = told(&fleet.client).await;
    assert_eq!((info.admitted_requests_total, info.refused_requests_total), (3, 1));
    assert_eq!((info.running_requests, info.queue_depth, info.queue_limit), (1, 1, 1));
    assert!(info.queued_work_seconds > 0.0 && info.uptime_seconds >= fresh.uptime_seconds, "{info:?}");
    assert_eq!(denoiser(&info).calls, 2);
    drop(running);
}

#[tokio::test]
async fn a_denoiser_s_load_is_what_it_said() {
    let fleet = Fleet::start().await;
    *fleet.behaviour.load.lock().unwrap() = GetLoadResponse {
        running: 3,
        waiting: 2,
        remaining_evaluations: 70,
        step_seconds: 0.5,
        remaining_seconds: 7.5,
        running_pixels: 96,
        ..GetLoadResponse::default()
    };
    let expected = DenoiserLoad {
        running: 3,
        waiting: 2,
        remaining_evaluations: 70,
        step_seconds: 0.5,
        remaining_seconds: 7.5,
        running_pixels: 96,
        batch_pixels: 256,
    };
    let is_told = |info: &GetServerInfoResponse| denoiser(info).load == Some(expected);
    let info = told_until(&fleet.client, "the load", is_told).await;
    for worker in &info.workers {
        assert!(worker.ready && worker.state == "ready" && worker.seen_seconds_ago.is_some(), "{worker:?}");
        assert_eq!(worker.load.is_some(), worker.stage == "denoiser", "{worker:?}");
    }
}

#[tokio::test]
async fn who_is_gone_is_told_with_what_it_was() {
    let fleet = Fleet::start().await;
    let before = told(&fleet.client).await;
    let Fleet {
        denoiser: leaving, client, text_encoder: _text_encoder, vae: _vae, orchestrator: _orchestrator, ..
    } = fleet;
    let address = leaving.grpc_addr.to_string();
    leaving.drain().await.unwrap();
    let info = told_until(&client, "the end of the denoiser", |info| denoiser(info).state == "unreachable").await;
    let (was, is) = (denoiser(&before), denoiser(&info));
    assert_eq!((&is.address, is.ready), (&address, false));
    assert_eq!((&is.model, &is.revision, &is.version), (&was.model, &was.revision, &was.version));
    assert!(!is.problem.is_empty() && !is.revision.is_empty() && is.seen_seconds_ago.is_some(), "{is:?}");
    assert!(!info.ready && info.problem.starts_with("denoiser: no worker is ready"), "{}", info.problem);
}
