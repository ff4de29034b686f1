//! No denoiser is there, never was or was scaled away: a request waits, is counted as work, and is served by the first that comes.

use std::sync::Arc;
use std::time::Duration;

use darkroom_proto::v1::{GenerateEvent, GenerateRequest};
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

use super::fakes::Behaviour;
use super::fleet::{Fleet, denoiser, kinds, request};
use super::pools::Names;
use crate::Config;
use crate::stages::discovery::Resolver;

const WORK: &str = "darkroom_queued_work_seconds";
const DEPTH: &str = "darkroom_queue_depth";
const READY: &str = r#"darkroom_workers{stage="denoiser",state="ready"}"#;

/// A fleet whose denoisers' name leads to nobody, with the other stages ready.
async fn without_denoisers(names: &Arc<Names>, change: impl FnOnce(&mut Config)) -> Fleet {
    names.set(&[]);
    let resolver: Arc<dyn Resolver> = Arc::clone(names) as _;
    let fleet = Fleet::resolving(resolver, |config| {
        config.denoisers = vec!["dns:///denoisers.fleet:7003".into()];
        config.resolve_interval_ms = 20;
        config.no_worker_wait_seconds = 20;
        change(config);
    })
    .await;
    for stage in ["text_encoder", "vae"] {
        fleet.metric_becomes(&format!(r#"darkroom_workers{{stage="{stage}",state="ready"}}"#), 1.0).await;
    }
    fleet
}

type Answer = Result<Streaming<GenerateEvent>, Status>;

/// Asks, and does not wait for the answer.
fn asked(fleet: &Fleet, request: GenerateRequest) -> JoinHandle<Answer> {
    let mut client = fleet.client.clone();
    tokio::spawn(async move { Ok(client.generate(request).await?.into_inner()) })
}

/// The answer's last event.
async fn end(asked: JoinHandle<Answer>) -> &'static str {
    let mut stream = asked.await.unwrap().unwrap();
    let mut last = None;
    while let Some(event) = stream.message().await.unwrap() {
        last = event.event;
    }
    kinds(&[last.unwrap()])[0]
}

#[tokio::test]
async fn a_request_is_work_before_the_first_denoiser_and_after_the_last_one_left() {
    let names = Arc::new(Names::default());
    let fleet = without_denoisers(&names, |_| ()).await;
    // Requests must reach it, or nobody would start a denoiser.
    fleet.orchestrator.ready().await.unwrap();
    assert_eq!(fleet.metric(WORK).await, 0.0);

    let (first, second) = (asked(&fleet, request()), asked(&fleet, request()));
    // The reference script's 50 steps of 512×512 pixels, at the second that assumed_step_seconds is by default.
    fleet.metric_becomes(WORK, 100.0).await;
    fleet.metric_becomes(DEPTH, 2.0).await;
    second.abort();
    fleet.metric_becomes(WORK, 50.0).await;

    let behaviour = Arc::new(Behaviour::default());
    let worker = denoiser(&behaviour).await;
    names.set(&[worker.grpc_addr]);
    assert_eq!(end(first).await, "completed");
    fleet.metric_becomes(WORK, 0.0).await;
    assert!(fleet.metric("darkroom_queue_wait_seconds_sum").await > 0.0, "the wait for a worker is a wait");

    names.set(&[]);
    fleet.metric_becomes(READY, 0.0).await;
    let third = asked(&fleet, request());
    fleet.metric_becomes(DEPTH, 1.0).await;
    let work = fleet.metric(WORK).await;
    assert!(work > 0.0 && work < 50.0, "{work} s: now the model's own defaults are known, which are smaller");
    fleet.orchestrator.ready().await.unwrap();
    names.set(&[worker.grpc_addr]);
    assert_eq!(end(third).await, "completed");
    fleet.metric_becomes(WORK, 0.0).await;
}

#[tokio::test]
async fn who_waits_for_a_denoiser_is_bounded_as_the_queue_is() {
    let names = Arc::new(Names::default());
    let fleet = without_denoisers(&names, |config| config.queue_limit = 4).await;
    let waiting: Vec<_> = (0..3).map(|_| asked(&fleet, request())).collect();
    fleet.metric_becomes(DEPTH, 3.0).await;
    // The last place is kept for other clients.
    let status = fleet.generate(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("3 requests of this client wait already"), "{status:?}");
    for one in &waiting {
        one.abort();
    }
    fleet.metric_becomes(DEPTH, 0.0).await;
    assert_eq!(fleet.metric(WORK).await, 0.0);
}

#[tokio::test]
async fn a_wait_in_vain_ends_and_counts_no_more() {
    let names = Arc::new(Names::default());
    let fleet = without_denoisers(&names, |config| config.no_worker_wait_seconds = 1).await;
    let (_, status) = fleet.all(request()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "denoiser: no worker is ready: denoisers.fleet leads to nobody");
    fleet.metric_becomes(WORK, 0.0).await;
}

#[tokio::test]
async fn one_that_does_not_let_requests_wait_is_not_ready_without_denoisers() {
    let names = Arc::new(Names::default());
    let fleet = without_denoisers(&names, |config| config.no_worker_wait_seconds = 0).await;
    assert!(!fleet.orchestrator.readiness().is_ready());
    let patient = without_denoisers(&names, |_| ()).await;
    // A stage that nobody scales to zero is another matter.
    patient.orchestrator.ready().await.unwrap();
    let Fleet { vae, orchestrator, .. } = patient;
    drop(vae);
    let mut states = orchestrator.readiness().subscribe();
    let waiting = states.wait_for(|state| !matches!(state, darkroom_service_kit::State::Ready));
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
}
