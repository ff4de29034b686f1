//! Two models in one orchestrator: who gets which request, and that neither hears of the other's troubles.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{
    GenerateRequest, GetServerInfoRequest, GetServerInfoResponse, ListModelsRequest, Model as ModelMessage,
};
use darkroom_service_kit::ServiceHandle;
use tonic::Code;
use tonic_types::StatusExt;

use super::fakes::{Behaviour, PLACES};
use super::fleet::{Fleet, denoiser, denoiser_at, kinds, next, request};
use crate::Config;

/// Two models, each with a denoiser, and all else in common.
struct Two {
    fleet: Fleet,
    other: Arc<Behaviour>,
    denoiser: ServiceHandle,
}

fn other_behaviour() -> Arc<Behaviour> {
    let other = Arc::new(Behaviour::default());
    *other.model.lock().unwrap() = Some("other");
    *other.identity.lock().unwrap() = Some(("fedcba9876543210", "f32"));
    other
}

fn ready(model: &str, stage: &str) -> String {
    format!(r#"darkroom_workers{{model="{model}",stage="{stage}",state="ready"}}"#)
}

async fn two(change: impl FnOnce(&mut Config)) -> Two {
    let other = other_behaviour();
    let denoiser = denoiser(&other).await;
    let fleet = Fleet::of_two(&[denoiser.grpc_addr], change).await;
    for model in ["fake", "other"] {
        for stage in ["text_encoder", "denoiser", "vae"] {
            fleet.metric_becomes(&ready(model, stage), 1.0).await;
        }
    }
    // Each line has told its queue of its workers.
    for model in ["fake", "other"] {
        let served = format!(r#"darkroom_model_info{{model="{model}",text_revision="0123456789abcdef/f32"}}"#);
        fleet.metric_becomes(&served, 1.0).await;
    }
    Two { fleet, other, denoiser }
}

impl Fleet {
    async fn models(&self) -> Vec<ModelMessage> {
        self.client.clone().list_models(ListModelsRequest {}).await.unwrap().into_inner().models
    }

    async fn model(&self, name: &str) -> ModelMessage {
        self.models().await.into_iter().find(|model| model.name == name).unwrap()
    }

    async fn eventually_model(&self, name: &str, is_so: impl Fn(&ModelMessage) -> bool) -> ModelMessage {
        let until = std::time::Instant::now() + super::fleet::PATIENCE;
        loop {
            let model = self.model(name).await;
            if is_so(&model) {
                return model;
            }
            assert!(std::time::Instant::now() < until, "it never came: {model:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn info(&self) -> GetServerInfoResponse {
        self.client.clone().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner()
    }
}

fn of(model: &str) -> GenerateRequest {
    GenerateRequest { model: model.into(), ..request() }
}

/// As a client of that name.
fn by(client: u32, request: GenerateRequest) -> tonic::Request<GenerateRequest> {
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("x-api-key", format!("client-{client}").parse().unwrap());
    request
}

fn calls(behaviour: &Behaviour) -> usize {
    behaviour.denoised.lock().unwrap().len()
}

#[tokio::test]
async fn a_request_goes_to_the_model_that_it_names_and_to_the_first_without_a_name() {
    let Two { fleet, other, denoiser: _denoiser } = two(|_| ()).await;
    for (name, served, seen) in [("", "fake", (1, 0)), ("other", "other", (1, 1)), ("fake", "fake", (2, 1))] {
        let (events, status) = fleet.all(of(name)).await;
        assert!(status.is_none(), "{status:?}");
        let started = events.iter().find_map(|event| match event {
            Event::Started(started) => Some(started.model.as_str()),
            _ => None,
        });
        assert_eq!(started, Some(served));
        assert_eq!((calls(&fleet.behaviour), calls(&other)), seen);
    }
    let status = fleet.all(of("third")).await.1.unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), r#"model: "third" is not served here, known are "fake", "other""#);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "model");
    // Both have the embeddings of one text encoder.
    assert_eq!(fleet.behaviour.texts.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn models_their_workers_and_their_numbers_are_told_apart() {
    let Two { fleet, other, denoiser } = two(|_| ()).await;
    let models = fleet.models().await;
    let names: Vec<_> = models.iter().map(|model| (model.name.as_str(), model.max_side, &*model.problem)).collect();
    assert_eq!(names, [("fake", 512, ""), ("other", 512, "")]);
    let info = fleet.info().await;
    assert_eq!((info.queue_depth, info.queue_limit), (0, 1024));
    let workers: Vec<_> = info.workers.iter().map(|one| (&*one.served_model, &*one.stage, &*one.model)).collect();
    let expected = [
        ("fake", "text_encoder", "fake"),
        ("fake", "denoiser", "fake"),
        ("fake", "vae", "fake"),
        ("other", "text_encoder", "fake"),
        ("other", "denoiser", "other"),
        ("other", "vae", "fake"),
    ];
    assert_eq!(workers, expected);
    assert_eq!(info.workers[4].address, denoiser.grpc_addr.to_string());

    for (name, images) in [("fake", 2), ("other", 3)] {
        let (_, status) = fleet.all(GenerateRequest { num_images: Some(images), ..of(name) }).await;
        assert!(status.is_none(), "{status:?}");
    }
    assert_eq!((calls(&fleet.behaviour), calls(&other)), (2, 3));
    let metrics = fleet.metrics().await;
    for line in [
        r#"darkroom_images_total{model="fake"} 2"#,
        r#"darkroom_images_total{model="other"} 3"#,
        r#"darkroom_stage_seconds_count{model="fake",stage="denoiser"} 2"#,
        r#"darkroom_stage_seconds_count{model="other",stage="vae"} 3"#,
        r#"darkroom_queue_wait_seconds_count{model="other"} 1"#,
        r#"darkroom_queued_work_seconds{model="fake"} 0"#,
        r#"darkroom_queue_depth{model="other"} 0"#,
        // What they share has no such label.
        "darkroom_prompt_cache_misses_total 2",
        "darkroom_prompt_cache_hits_total 2",
        "darkroom_results_bytes 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let bare = |line: &&str| line.starts_with("darkroom_images_total ") || line.starts_with("darkroom_queue_depth ");
    assert_eq!(metrics.lines().find(bare), None, "a series of no model");
}

#[tokio::test]
async fn one_that_is_away_disturbs_nobody_and_is_told() {
    // An address that nobody listens at.
    let other = other_behaviour();
    let gone = denoiser(&other).await;
    let address: SocketAddr = gone.grpc_addr;
    drop(gone);
    let fleet = Fleet::of_two(&[address], |_| ()).await;
    tokio::time::timeout(super::fleet::PATIENCE, fleet.orchestrator.ready()).await.unwrap().unwrap();
    let (events, status) = fleet.all(of("")).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(kinds(&events).last(), Some(&"completed"));

    let status = fleet.all(of("other")).await.1.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("denoiser: no worker is ready"), "{status:?}");
    let never = fleet.model("other").await;
    assert!(never.problem.starts_with("denoiser: no worker is ready"), "{never:?}");
    assert_eq!((never.max_side, never.defaults), (0, None));
    // What scales it from nothing is there before any worker ever was.
    assert!(fleet.metrics().await.contains(r#"darkroom_queued_work_seconds{model="other"} 0"#));

    // It comes, and goes again.
    let back = denoiser_at(address, &other).await;
    fleet.eventually_model("other", |model| model.problem.is_empty()).await;
    let (_, status) = fleet.all(of("other")).await;
    assert!(status.is_none(), "{status:?}");
    drop(back);
    let known = fleet.eventually_model("other", |model| !model.problem.is_empty()).await;
    assert_eq!((known.max_side, known.defaults.unwrap().num_inference_steps), (512, 4), "as it was last");
    assert!(fleet.orchestrator.readiness().is_ready());
    assert!(fleet.all(of("fake")).await.1.is_none());
}

#[tokio::test]
async fn readiness_says_what_each_lacks_when_none_is_served() {
    let Two { fleet, denoiser, .. } = two(|_| ()).await;
    drop((fleet.denoiser, denoiser));
    let lacks = |state: &darkroom_service_kit::State| match state {
        darkroom_service_kit::State::Waiting(why) => {
            why.starts_with("fake: denoiser: no worker is ready: ") && why.contains("; other: denoiser: no worker")
        }
        _ => false,
    };
    let mut states = fleet.orchestrator.readiness().subscribe();
    tokio::time::timeout(super::fleet::PATIENCE, states.wait_for(lacks)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_crowd_for_one_model_leaves_the_other_its_places_and_its_denoisers() {
    let Two { fleet, other, denoiser: _denoiser } = two(|config| config.queue_limit = 8).await;
    fleet.set_step_time(Duration::from_millis(20));
    let long = |model: &str| GenerateRequest { num_inference_steps: Some(1000), ..of(model) };
    // Two run, and six are three quarters of the places.
    let mut crowd = Vec::new();
    let refused = loop {
        match fleet.generate(by(crowd.len() as u32, long("fake"))).await {
            Ok(stream) => crowd.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!((refused.code(), crowd.len()), (Code::ResourceExhausted, 8));
    let expected =
        "6 requests for this model wait already; of this server's 8 places the rest is kept for other models";
    assert!(refused.message().starts_with(expected), "{refused:?}");
    assert!(refused.get_details_retry_info().is_some());
    assert_eq!(fleet.metric(r#"darkroom_queue_depth{model="fake"}"#).await, 6.0);

    let (events, status) = fleet.all(by(100, of("other"))).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(kinds(&events)[0], "started", "it did not wait");
    // Those who have to wait for the other one find room as well, and all together stay within the bound.
    *other.step_time.lock().unwrap() = Duration::from_millis(20);
    let mut others = Vec::new();
    let refused = loop {
        match fleet.generate(by(200 + others.len() as u32, long("other"))).await {
            Ok(stream) => others.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!((refused.code(), others.len()), (Code::ResourceExhausted, 3), "two run and one waits");
    assert_eq!(fleet.info().await.queue_depth, 7);
    assert!(fleet.metric(r#"darkroom_queued_work_seconds{model="fake"}"#).await > 0.0);

    // As the crowd goes, there is more room.
    drop(crowd);
    fleet.metric_becomes(r#"darkroom_queue_depth{model="fake"}"#, 0.0).await;
    others.push(fleet.generate(by(300, long("other"))).await.unwrap());
    let Some(mut first) = others.into_iter().next() else { panic!("nobody runs") };
    while !matches!(next(&mut first).await, Event::Step(_)) {}
}

#[tokio::test]
async fn those_who_wait_for_a_model_without_denoisers_leave_the_other_its_places() {
    let gone = denoiser(&other_behaviour()).await;
    let address = gone.grpc_addr;
    drop(gone);
    let fleet = Fleet::of_two(&[address], |config| (config.queue_limit, config.no_worker_wait_seconds) = (8, 20)).await;
    let served = r#"darkroom_model_info{model="fake",text_revision="0123456789abcdef/f32"}"#;
    fleet.metric_becomes(served, 1.0).await;
    let ask = |client| {
        let mut door = fleet.client.clone();
        tokio::spawn(async move { door.generate(by(client, of("other"))).await.map(drop) })
    };
    let waiting: Vec<_> = (0..6).map(ask).collect();
    fleet.metric_becomes(r#"darkroom_queue_depth{model="other"}"#, 6.0).await;
    let refused = ask(6).await.unwrap().unwrap_err();
    let expected =
        "6 requests for this model wait already; of this server's 8 places the rest is kept for other models";
    assert!(refused.message().starts_with(expected), "{refused:?}");

    // The other model has what is left: two run and one waits.
    fleet.set_step_time(Duration::from_millis(20));
    let mut crowd = Vec::new();
    let long = || GenerateRequest { num_inference_steps: Some(1000), ..of("fake") };
    while let Ok(stream) = fleet.generate(by(100 + crowd.len() as u32, long())).await {
        crowd.push(stream);
    }
    assert_eq!((crowd.len(), fleet.info().await.queue_depth), (3, 7));
    for one in &waiting {
        one.abort();
    }
    fleet.metric_becomes(r#"darkroom_queue_depth{model="other"}"#, 0.0).await;
    crowd.push(fleet.generate(by(200, long())).await.unwrap());
}

#[tokio::test]
async fn calls_to_workers_that_both_use_wait_in_one_line() {
    let Two { fleet, denoiser: _denoiser, .. } = two(|_| ()).await;
    *fleet.behaviour.decode_time.lock().unwrap() = Duration::from_millis(50);
    let mut pictures = tokio::task::JoinSet::new();
    let each = 2 * PLACES;
    for (number, model) in (0..each).flat_map(|number| [(number, "fake"), (number, "other")]) {
        let client = fleet.client.clone();
        let asked = by(number, GenerateRequest { seed: Some(number.into()), ..of(model) });
        pictures.spawn(async move {
            let mut stream = client.clone().generate(asked).await.unwrap().into_inner();
            while stream.message().await.unwrap().is_some() {}
        });
    }
    assert_eq!(pictures.join_all().await.len() as u32, 2 * each);
    assert_eq!(fleet.behaviour.decoded.load(Ordering::SeqCst), 2 * each);
    for model in ["fake", "other"] {
        let refused = format!(r#"darkroom_retries_total{{model="{model}",stage="vae",reason="busy"}}"#);
        assert_eq!(fleet.metric(&refused).await, 0.0, "the VAE was never asked for more than it has places");
    }
}

#[tokio::test]
async fn a_worker_that_runs_another_model_gets_no_work_and_is_told_why() {
    let Two { fleet, other, denoiser } = two(|_| ()).await;
    *other.model.lock().unwrap() = Some("stray");
    fleet.metric_becomes(r#"darkroom_workers{model="other",stage="denoiser",state="misfit_model"}"#, 1.0).await;
    fleet.eventually_model("other", |model| !model.problem.is_empty()).await;
    let status = fleet.all(of("other")).await.1.unwrap();
    let why = r#"runs the model "stray", and its list is for "other""#;
    let address = denoiser.grpc_addr;
    assert_eq!(status.message(), format!("denoiser: no worker is ready: {address} ({why})"));
    let told = fleet.info().await.workers.into_iter().find(|worker| worker.address == address.to_string()).unwrap();
    assert_eq!((told.ready, told.problem.as_str()), (false, why));
    assert_eq!(calls(&other), 0);

    // A VAE that both list may have either name, and no third one.
    *fleet.behaviour.model.lock().unwrap() = Some("other");
    fleet.metric_becomes(r#"darkroom_workers{model="fake",stage="denoiser",state="misfit_model"}"#, 1.0).await;
    for model in ["fake", "other"] {
        assert_eq!(fleet.metric(&ready(model, "vae")).await, 1.0);
    }
    *fleet.behaviour.model.lock().unwrap() = Some("third");
    for model in ["fake", "other"] {
        let misfit = format!(r#"darkroom_workers{{model="{model}",stage="vae",state="misfit_model"}}"#);
        fleet.metric_becomes(&misfit, 1.0).await;
    }
}
