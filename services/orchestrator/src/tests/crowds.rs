//! Stages that have no room: what was let in waits for it, and is not lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use darkroom_proto::v1::{GenerateRequest, OutputFormat};
use tonic::Code;
use tonic::transport::Endpoint;

use super::fakes::{self, PLACES};
use super::fleet::{Fleet, kinds, request};
use crate::stages::Stage;

fn asked(seed: u64) -> GenerateRequest {
    GenerateRequest { seed: Some(seed), request_id: format!("r{seed}"), ..request() }
}

#[tokio::test]
async fn no_more_is_decoded_at_once_or_denoised_ahead_than_a_vae_has_places_for() {
    let fleet = Fleet::start().await;
    *fleet.behaviour.decode_time.lock().unwrap() = Duration::from_millis(300);
    let behaviour = &fleet.behaviour;
    let watch = async {
        let mut ahead = 0;
        loop {
            let decoded = behaviour.decoded.load(Ordering::SeqCst) as usize;
            ahead = ahead.max(behaviour.denoised.lock().unwrap().len() - decoded);
            if decoded == 40 {
                return ahead;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut pictures = tokio::task::JoinSet::new();
    for seed in 0..40 {
        let client = fleet.client.clone();
        pictures.spawn(async move {
            let mut stream = client.clone().generate(asked(seed)).await.unwrap().into_inner();
            while stream.message().await.unwrap().is_some() {}
        });
    }
    let (ahead, ended) = tokio::join!(watch, pictures.join_all());
    assert_eq!(ended.len(), 40);
    assert_eq!(fleet.metric(r#"darkroom_retries_total{stage="vae",reason="busy"}"#).await, 0.0);
    // Those in the VAE's places, two in the denoiser's slots and two that came in while those ended, and one on its way.
    assert!(ahead <= PLACES as usize + 5, "{ahead} denoised or under way and not decoded");
}

#[tokio::test]
async fn what_others_fill_is_waited_for_in_every_stage_and_costs_no_tries() {
    for stage in Stage::ALL {
        let fleet = Fleet::with(|config| (config.max_tries, config.retry_reserve) = (2, 0)).await;
        *fleet.behaviour.refusal.lock().unwrap() = Some((stage, fakes::full()));
        let series = match stage {
            Stage::Denoiser => r#"darkroom_resumes_total{reason="busy"}"#.to_owned(),
            _ => format!(r#"darkroom_retries_total{{stage="{}",reason="busy"}}"#, stage.name()),
        };
        let room = async {
            fleet.eventually_metric(&series, 3.0).await;
            *fleet.behaviour.refusal.lock().unwrap() = None;
        };
        let ((events, status), ()) = tokio::join!(fleet.all(request()), room);
        assert!(status.is_none(), "{}: {status:?}", stage.name());
        assert_eq!(kinds(&events).last(), Some(&"completed"));
    }
}

#[tokio::test]
async fn a_crowd_that_does_not_end_is_told_and_a_deadline_ends_the_wait() {
    let fleet = Fleet::with(|config| (config.recovery_wait_seconds, config.no_worker_wait_seconds) = (1, 1)).await;
    *fleet.behaviour.refusal.lock().unwrap() = Some((Stage::Denoiser, fakes::full()));
    let (_, status) = fleet.all(request()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("all 8 places"), "{status:?}");

    let patient = Fleet::start().await;
    *patient.behaviour.refusal.lock().unwrap() = Some((Stage::TextEncoder, fakes::full()));
    let mut hurried = tonic::Request::new(asked(7));
    hurried.set_timeout(Duration::from_secs(1));
    let (_, status) = patient.all(hurried).await;
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
}

/// `images` latents of 64 KiB each, asked for by the client with `key`.
fn heavy(key: &'static str, images: u32) -> tonic::Request<GenerateRequest> {
    let latents = OutputFormat::Latents.into();
    let side = Some(512);
    let mut asked = tonic::Request::new(GenerateRequest {
        num_images: Some(images),
        output_format: latents,
        width: side,
        height: side,
        ..request()
    });
    asked.metadata_mut().insert("x-api-key", key.parse().unwrap());
    asked
}

#[tokio::test]
async fn who_does_not_fetch_its_pictures_gets_no_more_and_others_do() {
    let fleet = Fleet::with(|config| config.max_results_mib = 2).await;
    // Its HTTP/2 layer takes 64 KiB of a stream, and what it is not asked for stays with the server.
    let endpoint = Endpoint::from_shared(format!("http://{}", fleet.orchestrator.grpc_addr)).unwrap();
    let narrow = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    let mut lazy = ImageGenerationClient::new(narrow);
    let mut unread = Vec::new();
    for images in [16, 12] {
        unread.push(lazy.generate(heavy("lazy", images)).await.unwrap().into_inner());
    }
    fleet.metric_becomes("darkroom_results_bytes", f64::from(28 * (64 << 10))).await;
    let status = fleet.generate(heavy("lazy", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("results of 1 MiB wait to be fetched"), "{status:?}");
    let (events, status) = fleet.all(heavy("other", 1)).await;
    assert!(status.is_none() && kinds(&events).contains(&"image"), "{status:?}");
    // What was asked for is still there, and read at last.
    for (stream, images) in unread.iter_mut().zip([16, 12]) {
        let mut pictures = 0;
        while let Some(event) = stream.message().await.unwrap() {
            pictures += u32::from(matches!(event.event, Some(Event::Image(_))));
        }
        assert_eq!(pictures, images);
    }
    fleet.metric_becomes("darkroom_results_bytes", 0.0).await;
    assert!(fleet.all(heavy("lazy", 1)).await.1.is_none());
}
