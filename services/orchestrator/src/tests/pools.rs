//! Workers that come, go, differ and fail, seen from requests: who gets work, and why others do not.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{GenerateRequest, GetLoadResponse, GetServerInfoRequest};
use tonic::{Code, Status};

use super::fakes::Behaviour;
use super::fleet::{Fleet, denoiser, next, request, text_encoder, vae};
use crate::stages::Stage;
use crate::stages::discovery::{Resolved, Resolver};

const READY: &str = r#"darkroom_workers{stage="denoiser",state="ready"}"#;

/// A name service that a test writes; `None`: it is down.
#[derive(Default)]
pub(super) struct Names {
    addresses: Mutex<Option<Vec<SocketAddr>>>,
    asked: AtomicU32,
}

impl Names {
    pub(super) fn set(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().unwrap() = Some(addresses.to_vec());
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> Resolved<'a> {
        assert_eq!(host, "denoisers.fleet");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.addresses.lock().unwrap().clone().ok_or_else(|| io::Error::other("the name service is down"));
        Box::pin(async move { answer })
    }
}

fn calls(behaviour: &Behaviour) -> usize {
    behaviour.denoised.lock().unwrap().len()
}

async fn named_fleet(names: &Arc<Names>) -> Fleet {
    let resolver: Arc<dyn Resolver> = Arc::clone(names) as _;
    Fleet::resolving(resolver, |config| {
        config.denoisers = vec!["dns:///denoisers.fleet:7003".into()];
        config.resolve_interval_ms = 20;
        config.no_worker_wait_seconds = 20;
    })
    .await
}

#[tokio::test]
async fn workers_join_and_leave_with_their_name_while_requests_run() {
    let names = Arc::new(Names::default());
    let fleet = named_fleet(&names).await;
    let (one, other) = (Arc::new(Behaviour::default()), Arc::new(Behaviour::default()));
    let (first, second) = (denoiser(&one).await, denoiser(&other).await);
    *one.step_time.lock().unwrap() = Duration::from_millis(20);

    // A request that came before there was any worker.
    names.set(&[first.grpc_addr]);
    let mut running = fleet.generate(GenerateRequest { num_inference_steps: Some(1000), ..request() }).await.unwrap();
    while !matches!(next(&mut running).await, Event::Step(_)) {}

    // Its worker's name is gone: it gets nothing new, and finishes what it has.
    names.set(&[second.grpc_addr]);
    fleet.metric_becomes(r#"darkroom_workers{stage="denoiser",state="retired"}"#, 1.0).await;
    fleet.metric_becomes(READY, 1.0).await;
    let (_, status) = fleet.all(request()).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!((calls(&one), calls(&other)), (1, 1));
    *one.step_time.lock().unwrap() = Duration::ZERO;
    while !matches!(next(&mut running).await, Event::Completed(_)) {}
    fleet.metric_becomes(r#"darkroom_workers{stage="denoiser",state="retired"}"#, 0.0).await;
    assert_eq!((calls(&one), calls(&other)), (1, 1));

    // A name service that is down takes nobody away.
    *names.addresses.lock().unwrap() = None;
    let asked = names.asked.load(Ordering::SeqCst);
    fleet.eventually("two more look-ups", |_| names.asked.load(Ordering::SeqCst) >= asked + 2).await;
    let (_, status) = fleet.all(request()).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(fleet.metric(READY).await, 1.0);
}

#[tokio::test]
async fn a_name_that_leads_to_nobody_is_told() {
    let names = Arc::new(Names::default());
    names.set(&[]);
    let resolver: Arc<dyn Resolver> = Arc::clone(&names) as _;
    let fleet = Fleet::resolving(resolver, |config| config.denoisers = vec!["dns:///denoisers.fleet:1".into()]).await;
    fleet.metric_becomes(r#"darkroom_workers{stage="vae",state="ready"}"#, 1.0).await;
    fleet.metric_becomes(r#"darkroom_workers{stage="text_encoder",state="ready"}"#, 1.0).await;
    let (_, status) = fleet.all(request()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "denoiser: no worker is ready: denoisers.fleet leads to nobody");
}

#[tokio::test]
async fn the_worker_with_the_least_to_do_gets_the_work_and_idle_ones_take_turns() {
    let other = Arc::new(Behaviour::default());
    let second = denoiser(&other).await;
    let fleet = Fleet::with(|config| config.denoisers.push(second.grpc_addr.to_string())).await;
    fleet.metric_becomes(READY, 2.0).await;
    for _ in 0..6 {
        fleet.all(request()).await;
    }
    assert_eq!((calls(&fleet.behaviour), calls(&other)), (3, 3));

    // Work that somebody else has sent there.
    let busy =
        GetLoadResponse { running: 8, remaining_seconds: 100.0, step_seconds: 0.1, ..GetLoadResponse::default() };
    *other.load.lock().unwrap() = busy;
    let told = other.loads_told.load(Ordering::SeqCst);
    // The second was asked for after the first was heard.
    fleet.eventually("two reports", |_| other.loads_told.load(Ordering::SeqCst) >= told + 2).await;
    for _ in 0..4 {
        fleet.all(request()).await;
    }
    assert_eq!((calls(&fleet.behaviour), calls(&other)), (7, 3));
}

#[tokio::test]
async fn a_worker_of_another_revision_or_precision_gets_no_work_and_is_told_why() {
    let odd = Arc::new(Behaviour::default());
    let half = Arc::new(Behaviour::default());
    *odd.identity.lock().unwrap() = Some(("fedcba9876543210", "f32"));
    *half.identity.lock().unwrap() = Some(("0123456789abcdef", "bf16"));
    let same = Arc::new(Behaviour::default());
    let (first, second, third) = (denoiser(&odd).await, denoiser(&half).await, denoiser(&same).await);
    let fleet = Fleet::with(|config| {
        config.denoisers.extend([&first, &second, &third].map(|handle| handle.grpc_addr.to_string()));
    })
    .await;
    fleet.metric_becomes(READY, 2.0).await;
    fleet.metric_becomes(r#"darkroom_workers{stage="denoiser",state="misfit_revision"}"#, 1.0).await;
    fleet.metric_becomes(r#"darkroom_workers{stage="denoiser",state="misfit_precision"}"#, 1.0).await;
    for _ in 0..4 {
        let (_, status) = fleet.all(request()).await;
        assert!(status.is_none(), "{status:?}");
    }
    assert_eq!((calls(&odd), calls(&half)), (0, 0));
    let info = fleet.client.clone().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    let address = second.grpc_addr.to_string();
    let told = info.workers.iter().find(|worker| worker.address == address).unwrap();
    assert!(!told.ready);
    assert_eq!(told.problem, "computes in bf16, the others in f32");
}

#[tokio::test]
async fn a_request_never_goes_on_with_another_revision() {
    let fleet = Fleet::with(|config| config.recovery_wait_seconds = 0).await;
    fleet.set_step_time(Duration::from_millis(20));
    let mut running = fleet.generate(GenerateRequest { num_inference_steps: Some(1000), ..request() }).await.unwrap();
    while !matches!(next(&mut running).await, Event::Step(_)) {}
    *fleet.behaviour.identity.lock().unwrap() = Some(("fedcba9876543210", "f32"));
    let seen = async || {
        let info = fleet.client.clone().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        info.workers.iter().any(|worker| worker.stage == "denoiser" && worker.revision == "fedcba9876543210")
    };
    while !seen().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.behaviour.die.notify_waiters();
    let status = loop {
        match running.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it went on"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no worker of revision 0123456789ab in f32 is ready"), "{status:?}");
}

#[tokio::test]
async fn text_and_pictures_come_from_another_replica_when_one_fails() {
    let (texts, pictures) = (Arc::new(Behaviour::default()), Arc::new(Behaviour::default()));
    let (text, picture) = (text_encoder(&texts).await, vae(&pictures).await);
    let fleet = Fleet::with(|config| {
        config.text_encoders.push(text.grpc_addr.to_string());
        config.vaes.push(picture.grpc_addr.to_string());
    })
    .await;
    for stage in ["text_encoder", "vae"] {
        fleet.metric_becomes(&format!(r#"darkroom_workers{{stage="{stage}",state="ready"}}"#), 2.0).await;
    }
    // The others' own failures: each is asked at most once a request, as the other then answers.
    *texts.refusal.lock().unwrap() = Some((Stage::TextEncoder, Status::unavailable("it shuts down")));
    *pictures.refusal.lock().unwrap() = Some((Stage::Vae, Status::unavailable("it shuts down")));
    for seed in 0..4 {
        let prompt = format!("circle {seed}");
        let (_, status) = fleet.all(GenerateRequest { prompt, seed: Some(seed), ..request() }).await;
        assert!(status.is_none(), "{status:?}");
    }
    for stage in ["text_encoder", "vae"] {
        assert!(fleet.metric(&format!(r#"darkroom_retries_total{{stage="{stage}",reason="died"}}"#)).await >= 1.0);
    }

    // The request's own fault is not.
    *pictures.refusal.lock().unwrap() = Some((Stage::Vae, Status::invalid_argument("latents: odd")));
    *fleet.behaviour.refusal.lock().unwrap() = Some((Stage::Vae, Status::invalid_argument("latents: odd")));
    let before = fleet.metric(r#"darkroom_retries_total{stage="vae",reason="died"}"#).await;
    let (_, status) = fleet.all(request()).await;
    assert_eq!(status.unwrap().code(), Code::InvalidArgument);
    assert_eq!(fleet.metric(r#"darkroom_retries_total{stage="vae",reason="died"}"#).await, before);
}

#[tokio::test]
async fn a_text_encoder_that_hangs_is_left_for_another() {
    let slow = Arc::new(Behaviour::default());
    *slow.text_time.lock().unwrap() = Duration::from_secs(600);
    let second = text_encoder(&slow).await;
    let fleet = Fleet::with(|config| {
        config.text_encoders.push(second.grpc_addr.to_string());
        config.text_timeout_seconds = 1;
    })
    .await;
    fleet.metric_becomes(r#"darkroom_workers{stage="text_encoder",state="ready"}"#, 2.0).await;
    for prompt in ["one", "two"] {
        let (_, status) = fleet.all(GenerateRequest { prompt: prompt.into(), ..request() }).await;
        assert!(status.is_none(), "{status:?}");
    }
    assert!(fleet.metric(r#"darkroom_retries_total{stage="text_encoder",reason="hung"}"#).await >= 1.0);
}
