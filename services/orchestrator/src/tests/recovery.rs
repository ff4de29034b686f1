//! What becomes of a picture when its denoiser dies, hangs, leaves or refuses: it goes on elsewhere from the last checkpoint,
//! and neither its bytes nor its steps tell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::{GenerateRequest, GetLoadResponse, OutputFormat};
use darkroom_service_kit::ServiceHandle;
use tonic::{Code, Status};

use super::fakes::{self, Behaviour, Trouble, latent};
use super::fleet::{Fleet, denoiser, next, request};
use crate::stages::Stage;

const STEPS: u32 = 8;

/// A fleet of two denoisers, of which the first gets the first picture.
struct Pair {
    fleet: Fleet,
    second: Arc<Behaviour>,
    _second: ServiceHandle,
}

impl Pair {
    async fn start(change: impl FnOnce(&mut crate::Config)) -> Self {
        let second = Arc::new(Behaviour::default());
        let handle = denoiser(&second).await;
        let address = handle.grpc_addr.to_string();
        let fleet = Fleet::with(|config| {
            config.denoisers.push(address);
            change(config);
        })
        .await;
        let pair = Self { fleet, second, _second: handle };
        pair.fleet.metric_becomes(r#"darkroom_workers{stage="denoiser",state="ready"}"#, 2.0).await;
        pair
    }

    /// The same trouble for whoever gets the picture first: who that is does not matter.
    fn trouble(&self, after: u32, trouble: Trouble) {
        for behaviour in [&self.fleet.behaviour, &self.second] {
            *behaviour.trouble.lock().unwrap() = Some((after, trouble));
        }
    }

    /// Draws one picture and checks what must hold whatever happened: its latents and its steps are those of a quiet run.
    async fn picture(&self) {
        let latents = OutputFormat::Latents.into();
        let ask = GenerateRequest { output_format: latents, num_inference_steps: Some(STEPS), ..request() };
        let (events, status) = self.fleet.all(ask).await;
        assert!(status.is_none(), "{status:?}");
        let steps: Vec<u32> = events
            .iter()
            .filter_map(|event| match event {
                Event::Step(step) => Some(step.step),
                _ => None,
            })
            .collect();
        assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>());
        let image = events.iter().find_map(|event| match event {
            Event::Image(image) => Some(image),
            _ => None,
        });
        let latents = image.unwrap().latents.as_ref().unwrap();
        assert_eq!(latents.data[..4], latent(42, STEPS).to_le_bytes());
    }

    /// Evaluations of both, in the order in which they were made.
    fn evaluations(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for behaviour in [&self.fleet.behaviour, &self.second] {
            all.extend(behaviour.evaluations.lock().unwrap().iter().map(|(_, evaluation)| *evaluation));
        }
        all.sort_unstable();
        all
    }

    async fn resumes(&self, reason: &str) -> f64 {
        self.fleet.metric(&format!(r#"darkroom_resumes_total{{reason="{reason}"}}"#)).await
    }

    /// The attempts and the evaluations that denoise calls began at, sorted.
    fn calls(&self) -> Vec<(u32, Option<u32>)> {
        let mut calls = Vec::new();
        for behaviour in [&self.fleet.behaviour, &self.second] {
            let denoised = behaviour.denoised.lock().unwrap();
            calls.extend(
                denoised.iter().map(|call| (call.attempt, call.resume_from.as_ref().map(|from| from.evaluation))),
            );
        }
        calls.sort_unstable();
        calls
    }
}

#[tokio::test]
async fn a_denoiser_that_dies_after_any_evaluation_is_followed_by_another() {
    for after in 1..=STEPS {
        let pair = Pair::start(|_| ()).await;
        pair.trouble(after, Trouble::Dies);
        pair.picture().await;
        assert_eq!(pair.calls(), [(0, None), (1, Some(after))]);
        assert_eq!(pair.evaluations(), (0..STEPS).collect::<Vec<_>>(), "each evaluation is made once");
        assert_eq!(pair.resumes("died").await, 1.0);
        assert_eq!(pair.fleet.metric("darkroom_resumed_evaluations_total").await, f64::from(after));
        assert_eq!(pair.fleet.metric("darkroom_repeated_steps_total").await, 0.0);
        assert_eq!(pair.fleet.metric("darkroom_checkpoint_bytes").await, 0.0);
    }
}

#[tokio::test]
async fn a_denoiser_that_hangs_is_left_for_another() {
    let pair = Pair::start(|config| config.hang_floor_ms = 500).await;
    pair.trouble(3, Trouble::Hangs);
    // The reports tell of the same work for too long.
    for behaviour in [&pair.fleet.behaviour, &pair.second] {
        *behaviour.load.lock().unwrap() =
            GetLoadResponse { running: 1, remaining_evaluations: 5, step_seconds: 0.01, ..GetLoadResponse::default() };
    }
    pair.picture().await;
    assert_eq!(pair.calls(), [(0, None), (1, Some(3))]);
    assert_eq!(pair.evaluations(), (0..STEPS).collect::<Vec<_>>());
    assert_eq!(pair.resumes("hung").await, 1.0);
}

#[tokio::test]
async fn a_denoiser_that_leaves_hands_its_work_over_at_its_last_checkpoint() {
    let pair = Pair::start(|_| ()).await;
    pair.fleet.set_step_time(Duration::from_millis(20));
    *pair.second.step_time.lock().unwrap() = Duration::from_millis(20);
    pair.trouble(3, Trouble::Drains);
    pair.picture().await;
    // The second leaves at once too, at the same evaluation: it is not asked to do what it cannot.
    assert_eq!(pair.calls()[..2], [(0, None), (1, Some(3))]);
    assert!(pair.resumes("drained").await >= 1.0);
    assert_eq!(pair.fleet.metric("darkroom_repeated_steps_total").await, 0.0);
}

#[tokio::test]
async fn work_that_waits_at_a_denoiser_that_leaves_moves_at_once() {
    let pair = Pair::start(|_| ()).await;
    pair.trouble(0, Trouble::DrainsWaiting);
    *pair.second.trouble.lock().unwrap() = None;
    // Both get work, so the first's is among it.
    tokio::join!(pair.picture(), pair.picture());
    assert_eq!(pair.resumes("drained").await, 1.0);
}

#[tokio::test]
async fn the_last_denoiser_finishes_what_it_has_before_it_leaves() {
    let fleet = Fleet::start().await;
    *fleet.behaviour.trouble.lock().unwrap() = Some((2, Trouble::Drains));
    let (events, status) = fleet.all(request()).await;
    assert!(status.is_none(), "{status:?}");
    assert!(matches!(events.last(), Some(Event::Completed(_))));
    assert_eq!(fleet.behaviour.denoised.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn words_of_a_try_that_was_given_up_count_for_nothing() {
    let pair = Pair::start(|_| ()).await;
    pair.trouble(3, Trouble::Echoes);
    pair.picture().await;
    assert_eq!(pair.calls(), [(0, None)]);
}

#[tokio::test]
async fn a_denoiser_of_another_plan_version_starts_from_scratch() {
    let pair = Pair::start(|_| ()).await;
    pair.trouble(3, Trouble::Dies);
    // Whoever is asked to go on refuses, as one of another version would.
    let refuse = |behaviour: &Behaviour| behaviour.plan_version.store(9, std::sync::atomic::Ordering::SeqCst);
    refuse(&pair.fleet.behaviour);
    refuse(&pair.second);
    let fleet = &pair.fleet;
    let watch = async {
        fleet.metric_becomes(r#"darkroom_resumes_total{reason="plan_version"}"#, 1.0).await;
        for behaviour in [&fleet.behaviour, &pair.second] {
            *behaviour.trouble.lock().unwrap() = None;
        }
    };
    for behaviour in [&fleet.behaviour, &pair.second] {
        *behaviour.step_time.lock().unwrap() = Duration::from_millis(20);
    }
    tokio::join!(pair.picture(), watch);
    assert_eq!(pair.calls()[..3], [(0, None), (1, Some(3)), (2, None)]);
    assert_eq!(fleet.metric("darkroom_repeated_steps_total").await, 3.0);
}

#[tokio::test]
async fn a_busy_denoiser_is_passed_over() {
    let pair = Pair::start(|config| config.retry_reserve = 0).await;
    *pair.second.refusal.lock().unwrap() = Some((Stage::Denoiser, fakes::full()));
    tokio::join!(pair.picture(), pair.picture());
    assert!(pair.fleet.metric(r#"darkroom_resumes_total{reason="busy"}"#).await >= 1.0);
}

#[tokio::test]
async fn work_that_kills_every_worker_is_given_up() {
    let pair = Pair::start(|config| config.max_tries = 3).await;
    for behaviour in [&pair.fleet.behaviour, &pair.second] {
        *behaviour.refusal.lock().unwrap() = Some((Stage::Denoiser, Status::unavailable("the fake dies of it")));
    }
    let (_, status) = pair.fleet.all(request()).await;
    let message = status.unwrap().message().to_owned();
    assert!(message.starts_with("denoiser: 127.0.0.1:"), "{message}");
    assert!(message.ends_with("the fake dies of it; given up after 3 tries: max_tries are used up"), "{message}");
    assert_eq!(pair.calls().len(), 3);
}

#[tokio::test]
async fn without_a_budget_nothing_is_tried_again() {
    let pair = Pair::start(|config| config.retry_reserve = 0).await;
    for behaviour in [&pair.fleet.behaviour, &pair.second] {
        *behaviour.refusal.lock().unwrap() = Some((Stage::Denoiser, Status::unavailable("the fake dies of it")));
    }
    let (_, status) = pair.fleet.all(request()).await;
    assert_eq!(status.unwrap().code(), Code::Unavailable);
    assert_eq!(pair.calls().len(), 1);
    assert_eq!(pair.fleet.metric("darkroom_retries_refused_total").await, 1.0);
}

#[tokio::test]
async fn the_requests_own_fault_is_never_tried_again() {
    let pair = Pair::start(|_| ()).await;
    for behaviour in [&pair.fleet.behaviour, &pair.second] {
        *behaviour.refusal.lock().unwrap() = Some((Stage::Denoiser, Status::invalid_argument("eta: too odd")));
    }
    let (_, status) = pair.fleet.all(request()).await;
    assert_eq!(status.unwrap().code(), Code::InvalidArgument);
    assert_eq!(pair.calls().len(), 1);
}

#[tokio::test]
async fn work_waits_for_a_worker_that_comes_back() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let ask = GenerateRequest { num_inference_steps: Some(1000), ..request() };
    let mut stream = fleet.generate(ask).await.unwrap();
    while !matches!(next(&mut stream).await, Event::Step(_)) {}
    let Fleet { behaviour, text_encoder, denoiser: first, vae, orchestrator, client } = fleet;
    let address = first.grpc_addr;
    drop(first);
    *behaviour.step_time.lock().unwrap() = Duration::ZERO;
    let again = super::fleet::denoiser_at(address, &behaviour).await;
    let mut seen = BTreeSet::new();
    loop {
        match next(&mut stream).await {
            Event::Step(step) => assert!(seen.insert(step.step), "step {} came twice", step.step),
            Event::Completed(_) => break,
            _ => {}
        }
    }
    let attempts: Vec<u32> = behaviour.denoised.lock().unwrap().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [0, 1]);
    drop((text_encoder, again, vae, orchestrator, client));
}
