//! Stages that have no room: what was let in waits for it, and is not lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use darkroom_proto::v1::GenerateRequest;
use tonic::Code;

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
    // Those in the VAE's places, those in the two slots of the denoiser, and one that leaves as one comes.
    assert!(ahead <= PLACES as usize + 3, "{ahead} denoised or under way and not decoded");
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
