//! With the real thread.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio_stream::StreamExt;

use super::fake::*;
use crate::denoiser::{Denoiser, DenoiserOptions, Ready};
use crate::error::{ModelError, RunError, SubmitError};
use crate::events::Event;
use crate::observer::{Observer, Unobserved, WasteReason};
use crate::slots::Budget;

fn options(observer: Arc<dyn Observer>) -> DenoiserOptions {
    DenoiserOptions { name: "fake".to_owned(), queue_limit: 4, observer }
}

fn model() -> Result<Ready<FakeModel, &'static str>, ModelError> {
    nodding(None)
}

fn nodding(nods: Option<mpsc::Receiver<()>>) -> Result<Ready<FakeModel, &'static str>, ModelError> {
    let model = FakeModel { clock: FakeClock::new(), log: Log::default(), nods };
    Ok(Ready { model, budget: Budget::pictures(2), measured: Vec::new(), info: "fake" })
}

#[tokio::test]
async fn a_request_goes_through_the_thread_and_back() {
    let (denoiser, loaded) = Denoiser::start(options(Arc::new(Unobserved)), model).unwrap();
    assert_eq!(loaded.await.unwrap().unwrap(), "fake");
    let events: Vec<_> = denoiser.submit(request(1.0, 3), None).unwrap().collect().await;
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Step(_))).count(), 3);
    assert!(matches!(events.last(), Some(Event::End(Ok(_)))));
    denoiser.drain().await;
    assert_eq!(denoiser.submit(request(1.0, 3), None).err(), Some(SubmitError::Closed));
}

#[tokio::test]
async fn draining_finishes_what_was_taken() {
    let (denoiser, _loaded) = Denoiser::start(options(Arc::new(Unobserved)), model).unwrap();
    let events: Vec<_> = (0..4).map(|i| denoiser.submit(request(i as f32, 50), None).unwrap()).collect();
    denoiser.drain().await;
    for events in events {
        let end = events.collect::<Vec<_>>().await.pop();
        assert!(matches!(end, Some(Event::End(Ok(_)))), "{end:?}");
    }
}

#[tokio::test]
async fn a_drain_tells_who_waits_and_refuses_who_comes() {
    let (nod, nods) = mpsc::channel();
    let (denoiser, _loaded) = Denoiser::start(options(Arc::new(Unobserved)), || nodding(Some(nods))).unwrap();
    let mut events: Vec<_> = (0..3).map(|i| denoiser.submit(request(i as f32, 5), None).unwrap()).collect();
    assert!(!denoiser.load().draining);
    denoiser.begin_drain();
    assert!(denoiser.load().draining);
    assert_eq!(denoiser.submit(request(1.0, 3), None).err(), Some(SubmitError::Closed));
    // The third does not fit into the batch of two: it hears at once, whatever the model does.
    assert_eq!(events[2].next().await, Some(Event::Draining));
    drop(nod);
    denoiser.drain().await;
    for events in events {
        let end = events.collect::<Vec<_>>().await.pop();
        assert!(matches!(end, Some(Event::End(Ok(_)))), "the work goes on: {end:?}");
    }
}

#[tokio::test]
async fn a_dropped_stream_is_counted_as_cancelled() {
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn Observer> = Arc::clone(&notes) as _;
    let (nod, nods) = mpsc::channel();
    let (denoiser, _loaded) = Denoiser::start(options(observer), || nodding(Some(nods))).unwrap();
    let mut events = denoiser.submit(request(1.0, 50), None).unwrap();
    nod.send(()).unwrap();
    assert!(events.next().await.is_some());
    // The second evaluation is running, or about to: it is the last one that this request can cost.
    drop(events);
    drop(nod);
    denoiser.drain().await;
    let wasted = notes.wasted.lock().unwrap().clone();
    let [(WasteReason::Cancelled, steps)] = wasted[..] else { panic!("{wasted:?}") };
    assert!((1..=2).contains(&steps), "{steps}");
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_closes_the_line() {
    let fails = || Err::<Ready<FakeModel, ()>, ModelError>("the file is cut short".into());
    let (denoiser, loaded) = Denoiser::start(options(Arc::new(Unobserved)), fails).unwrap();
    assert_eq!(loaded.await.unwrap().unwrap_err().to_string(), "the file is cut short");
    denoiser.drain().await;
    assert_eq!(denoiser.submit(request(1.0, 1), None).err(), Some(SubmitError::Closed));
    let panics = || -> Result<Ready<FakeModel, ()>, ModelError> { panic!("out of bounds") };
    let (_denoiser, loaded) = Denoiser::start(options(Arc::new(Unobserved)), panics).unwrap();
    assert_eq!(loaded.await.unwrap().unwrap_err().to_string(), "the model panicked: out of bounds");
}

#[tokio::test]
async fn a_deadline_ends_the_stream_while_the_model_is_still_loading() {
    let (release, held) = mpsc::channel::<()>();
    let slow = move || {
        let _ = held.recv();
        model()
    };
    let (denoiser, _loaded) = Denoiser::start(options(Arc::new(Unobserved)), slow).unwrap();
    let deadline = Some(Instant::now() + Duration::from_millis(5));
    let events: Vec<_> = denoiser.submit(request(1.0, 3), deadline).unwrap().collect().await;
    assert_eq!(events, [Event::End(Err(RunError::DeadlineExceeded))]);
    assert_eq!(denoiser.load().waiting, 1);
    drop(release);
    denoiser.drain().await;
    assert_eq!(denoiser.load().waiting, 0);
}
