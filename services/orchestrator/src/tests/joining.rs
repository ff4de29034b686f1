//! A request that comes again joins the one that runs: nothing is computed twice, and the work ends with its last listener.

use std::sync::atomic::Ordering;
use std::time::Duration;

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use darkroom_proto::v1::{GenerateEvent, GenerateRequest};
use darkroom_service_kit::channel;
use tonic::{Code, Streaming};

use super::fleet::{Fleet, PATIENCE, kinds, next, request};

fn named(steps: u32) -> GenerateRequest {
    GenerateRequest { request_id: "mine".into(), num_inference_steps: Some(steps), ..request() }
}

async fn rest(mut stream: Streaming<GenerateEvent>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.push(next(&mut stream).await);
        if matches!(events.last(), Some(Event::Completed(_))) {
            return events;
        }
    }
}

async fn first_step(stream: &mut Streaming<GenerateEvent>) -> u32 {
    loop {
        if let Event::Step(step) = next(stream).await {
            return step.step;
        }
    }
}

fn image(events: &[Event]) -> &Event {
    events.iter().find(|event| matches!(event, Event::Image(_))).unwrap()
}

fn calls(fleet: &Fleet) -> usize {
    fleet.behaviour.denoised.lock().unwrap().len()
}

fn cancelled(fleet: &Fleet) -> u32 {
    fleet.behaviour.cancelled.load(Ordering::SeqCst)
}

#[tokio::test]
async fn the_same_request_joins_and_hears_the_rest() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    // Without a seed: who joins gets the one that was drawn.
    let asked = GenerateRequest { seed: None, ..named(1000) };
    let mut first = fleet.generate(asked.clone()).await.unwrap();
    let seen = first_step(&mut first).await;
    let mut second = fleet.generate(asked).await.unwrap();
    assert!(matches!(next(&mut second).await, Event::Started(_)));
    let Event::Step(step) = next(&mut second).await else { panic!("no step") };
    assert!(step.step >= seen);
    fleet.set_step_time(Duration::ZERO);
    let (first, second) = tokio::join!(rest(first), rest(second));
    assert_eq!(image(&first), image(&second));
    assert_eq!(first.last(), second.last());
    assert_eq!(calls(&fleet), 1);
    assert_eq!(fleet.metric(r#"darkroom_joins_total{state="running"}"#).await, 1.0);
}

#[tokio::test]
async fn the_work_ends_with_its_last_listener() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let mut first = fleet.generate(named(1000)).await.unwrap();
    first_step(&mut first).await;
    let mut second = fleet.generate(named(1000)).await.unwrap();
    drop(first);
    first_step(&mut second).await;
    first_step(&mut second).await;
    assert_eq!(cancelled(&fleet), 0);
    drop(second);
    // It was cancelled, not cut off: nobody waits for it to come back.
    fleet.eventually("the end of the work", |fleet| cancelled(fleet) == 1).await;
}

#[tokio::test]
async fn a_client_that_was_cut_off_comes_back_and_finds_its_work() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let door = door(&fleet).await;
    let mut cut = ImageGenerationClient::new(channel::lazy(&door.address).unwrap());
    let mut first = cut.generate(named(1000)).await.unwrap().into_inner();
    let seen = first_step(&mut first).await;
    door.slam();
    while first.message().await.is_ok_and(|message| message.is_some()) {}
    // The orchestrator has seen it, and the work goes on.
    let code = r#"darkroom_requests_total{method="darkroom.v1.ImageGeneration/Generate",code="CANCELLED"}"#;
    fleet.metric_becomes(code, 1.0).await;
    assert_eq!(cancelled(&fleet), 0);

    let mut again = fleet.generate(named(1000)).await.unwrap();
    assert!(first_step(&mut again).await >= seen);
    fleet.set_step_time(Duration::ZERO);
    assert_eq!(kinds(&rest(again).await).last(), Some(&"completed"));
    assert_eq!(calls(&fleet), 1);
}

#[tokio::test]
async fn work_that_nobody_comes_back_for_ends_after_its_grace() {
    // Without a name of its own nobody can come back: it does not wait.
    for (request_id, grace) in [("mine", 1), ("", 3600)] {
        let fleet = Fleet::with(|config| config.rejoin_grace_seconds = grace).await;
        fleet.set_step_time(Duration::from_millis(20));
        let door = door(&fleet).await;
        let mut cut = ImageGenerationClient::new(channel::lazy(&door.address).unwrap());
        let asked = GenerateRequest { request_id: request_id.into(), ..named(1000) };
        let mut stream = cut.generate(asked).await.unwrap().into_inner();
        first_step(&mut stream).await;
        let since = std::time::Instant::now();
        door.slam();
        fleet.eventually("the end of the work", |fleet| cancelled(fleet) == 1).await;
        if grace == 1 {
            assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
        }
    }
}

#[tokio::test]
async fn a_retry_just_after_the_end_gets_the_result() {
    let fleet = Fleet::start().await;
    let (first, _) = fleet.all(named(4)).await;
    let (again, status) = fleet.all(named(4)).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(kinds(&again), ["started", "image", "completed"]);
    assert_eq!(image(&first), image(&again));
    assert_eq!(calls(&fleet), 1);
    assert_eq!(fleet.metric(r#"darkroom_joins_total{state="finished"}"#).await, 1.0);
    assert!(fleet.metric("darkroom_finished_bytes").await > 0.0);

    // The name is free for something else.
    let (other, _) = fleet.all(GenerateRequest { seed: Some(43), ..named(4) }).await;
    assert_ne!(image(&first), image(&other));
    assert_eq!(calls(&fleet), 2);
}

#[tokio::test]
async fn without_keeping_it_is_made_again() {
    let fleet = Fleet::with(|config| config.keep_finished_seconds = 0).await;
    for calls in 1..=2 {
        fleet.all(named(4)).await;
        assert_eq!(self::calls(&fleet), calls);
    }
}

/// A way to the orchestrator that can be shut in the middle of a call.
struct Door {
    address: String,
    forward: tokio::task::JoinHandle<()>,
}

impl Door {
    fn slam(&self) {
        self.forward.abort();
    }
}

async fn door(fleet: &Fleet) -> Door {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, to) = (listener.local_addr().unwrap().to_string(), fleet.orchestrator.grpc_addr);
    let forward = tokio::spawn(async move {
        let (mut outside, _) = listener.accept().await.unwrap();
        let mut inside = tokio::net::TcpStream::connect(to).await.unwrap();
        _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    });
    Door { address, forward }
}

#[tokio::test]
async fn a_request_has_only_so_many_listeners() {
    let fleet = Fleet::start().await;
    fleet.set_step_time(Duration::from_millis(20));
    let mut listeners = Vec::new();
    for _ in 0..64 {
        listeners.push(fleet.generate(named(1000)).await.unwrap());
    }
    let status = fleet.generate(named(1000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("\"mine\" has 64 listeners"), "{status:?}");
    listeners.pop();
    fleet.set_step_time(Duration::ZERO);
    let until = std::time::Instant::now() + PATIENCE;
    while let Err(status) = fleet.generate(named(1000)).await {
        assert!(std::time::Instant::now() < until, "{status:?}");
    }
}
