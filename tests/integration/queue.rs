//! Waiting for a turn: the place is told, a full queue refuses with a delay, a higher priority goes first.

use darkroom_client::{Client, Code, Event, GenerateRequest, Generation, Priority};
use testkit::fleet::{Builder, Fleet, Service};
use testkit::wait;

use crate::asking::{busy, endless, image, next, refusal, small};

const PROMPT: &str = "a red circle on a white background";

/// A fleet that makes one picture at a time.
fn narrow() -> Builder {
    Fleet::with_pocket_model().denoiser(|config| config.max_batch = Some(1))
}

fn position(event: Event) -> Option<u32> {
    match event {
        Event::Queued(queued) => Some(queued.position),
        _ => None,
    }
}

async fn waiting(client: &Client, request: GenerateRequest) -> anyhow::Result<(Generation, u32)> {
    let mut generation = client.generate(request).await?;
    let position = next(&mut generation, position).await?;
    Ok((generation, position))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_with_a_delay() -> anyhow::Result<()> {
    let fleet = narrow().orchestrator(|config| config.queue_limit = 1).start().await?;
    let client = fleet.client().await?;
    let running = busy(&client, PROMPT).await?;
    let (waiting, position) = waiting(&client, small(PROMPT)).await?;
    assert_eq!(position, 0, "it is next");
    let info = client.server_info().await?;
    assert_eq!((info.queue_depth, info.queue_limit), (1, 1));
    let metrics = fleet.metrics(Service::Orchestrator).await?;
    assert_eq!(metrics.sum("darkroom_queue_depth", &[]), 1.0);
    assert!(metrics.sum("darkroom_queued_work_seconds", &[]) > 0.0);

    let error = refusal(&client, small(PROMPT)).await;
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.retry_after().is_some_and(|delay| !delay.is_zero()), "{:?}", error.retry_after());
    assert!(error.to_string().contains('1'), "the limit is told: {error}");

    // The place is free as soon as the one who held it has gone.
    drop((running, waiting));
    wait::until("a place in the queue", async || Ok(image(&client, small(PROMPT)).await.ok())).await?;
    assert_eq!(fleet.metrics(Service::Orchestrator).await?.sum("darkroom_queue_depth", &[]), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_told_as_they_change() -> anyhow::Result<()> {
    let fleet = narrow().start().await?;
    let client = fleet.client().await?;
    let running = busy(&client, PROMPT).await?;
    let (mut first, its_place) = waiting(&client, small(PROMPT)).await?;
    let (mut second, other_place) = waiting(&client, small(PROMPT)).await?;
    assert_eq!((its_place, other_place), (0, 1));
    drop(running);
    for generation in [&mut first, &mut second] {
        next(generation, |event| matches!(event, Event::Completed(_)).then_some(())).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_priority_goes_first() -> anyhow::Result<()> {
    let fleet = narrow().start().await?;
    let client = fleet.client().await?;
    let running = busy(&client, PROMPT).await?;
    let (mut normal, _) = waiting(&client, endless(PROMPT)).await?;
    let (mut high, place) = waiting(&client, small(PROMPT).priority(Priority::High)).await?;
    assert_eq!(place, 0, "before the one that came first");
    drop(running);
    next(&mut high, |event| matches!(event, Event::Completed(_)).then_some(())).await?;
    next(&mut normal, |event| matches!(event, Event::Started(_)).then_some(())).await
}
