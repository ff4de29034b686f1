//! Work that nobody waits for any more stops: after a disconnect, after a deadline, and without harm to others.

use std::time::Duration;

use darkroom_client::{Client, Code, Event, Generation};
use darkroom_proto::v1::GetLoadRequest;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use testkit::fleet::{Fleet, Service};
use testkit::wait;
use tokio_stream::StreamExt as _;

use crate::asking::{STEPS, endless, image, refusal, small};

const PROMPT: &str = "a red circle on a white background";
const STEPS_TOTAL: &str = "darkroom_steps_total";
const WASTED: &str = "darkroom_wasted_steps_total";

/// Reads events until the denoiser works on the request, and gives the step that it has done.
async fn first_step(generation: &mut Generation) -> anyhow::Result<u32> {
    wait::within("the first step", async {
        while let Some(event) = generation.next().await {
            if let Event::Step(step) = event? {
                return Ok(step.step);
            }
        }
        anyhow::bail!("the request ended without a step")
    })
    .await
}

/// Holds the denoiser's count of evaluations against those of a small request alone: nothing else may be running.
async fn nothing_else_runs(fleet: &Fleet, client: &Client) -> anyhow::Result<()> {
    let before = fleet.metrics(Service::Denoiser).await?.sum(STEPS_TOTAL, &[]);
    image(client, small(PROMPT).sampler("ddim")).await?;
    let after = fleet.metrics(Service::Denoiser).await?.sum(STEPS_TOTAL, &[]);
    assert_eq!(after - before, f64::from(STEPS), "evaluations that belong to nobody");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_stops_the_denoiser() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    // Large, so that the news of the drop travels in a small part of an evaluation's time.
    let mut generation = client.generate(endless(PROMPT).width(512).height(512)).await?;
    let seen = first_step(&mut generation).await?;
    drop(generation);

    let wasted = fleet.metric_reaches(Service::Denoiser, WASTED, &[("reason", "cancelled")], 1.0).await?;
    let metrics = fleet.metrics(Service::Denoiser).await?;
    assert_eq!(metrics.sum(STEPS_TOTAL, &[]), wasted, "all of its evaluations were wasted, and no other was made");
    // PLMS, the default, has done one evaluation more than steps. One was running when the news of a step came, and one while
    // the news of the drop was under way.
    assert!(wasted <= f64::from(seen + 3), "{wasted} evaluations, dropped after step {seen}");
    nothing_else_runs(&fleet, &client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_stops_the_denoiser() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let lost = fleet.client().await?;
    let mut generation = lost.generate(endless(PROMPT)).await?;
    first_step(&mut generation).await?;
    drop((lost, generation));
    fleet.metric_reaches(Service::Denoiser, WASTED, &[("reason", "cancelled")], 1.0).await?;
    nothing_else_runs(&fleet, &fleet.client().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pictures_of_a_dropped_request_stop() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().denoiser(|config| config.max_batch = Some(2)).start().await?;
    let client = fleet.client().await?;
    // Two in the batch, the others in line.
    let mut generation = client.generate(endless(PROMPT).num_images(6)).await?;
    first_step(&mut generation).await?;
    drop(generation);
    fleet.metric_reaches(Service::Denoiser, WASTED, &[("reason", "cancelled")], 1.0).await?;
    nothing_else_runs(&fleet, &client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_cannot_be_met_costs_no_evaluation() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    // What steps take is measured then.
    image(&client, small(PROMPT)).await?;
    let before = fleet.metrics(Service::Denoiser).await?.sum(STEPS_TOTAL, &[]);

    let error = refusal(&client, endless(PROMPT).deadline(Duration::from_millis(1500))).await;
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.to_string().contains("would be ready in"), "the earliest time is told: {error}");

    let metrics = fleet.metrics(Service::Denoiser).await?;
    assert_eq!(metrics.sum(STEPS_TOTAL, &[]), before, "it was refused before it began");
    assert_eq!(metrics.sum(WASTED, &[]), 0.0);
    nothing_else_runs(&fleet, &client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_who_leave_do_not_harm_five_who_stay() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let stays = |seed| small(PROMPT).seed(seed);
    let mut alone = Vec::new();
    for seed in 0..5 {
        alone.push(image(&client, stays(seed)).await?);
    }

    let mut leaving = Vec::new();
    for seed in 0..5 {
        leaving.push(client.generate(endless(PROMPT).seed(seed)).await?);
    }
    // At least one of them is in the batch when the others come.
    first_step(&mut leaving[0]).await?;
    let staying: Vec<_> = (0..5)
        .map(|seed| {
            let (client, request) = (client.clone(), stays(seed));
            tokio::spawn(async move { image(&client, request).await })
        })
        .collect();
    drop(leaving);
    for (task, alone) in staying.into_iter().zip(&alone) {
        assert_eq!(&task.await??, alone, "a neighbour's end changed a picture");
    }
    nothing_else_runs(&fleet, &client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_of_twenty_leave_their_places_within_an_evaluation() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().denoiser(|config| config.max_batch = Some(20)).start().await?;
    let client = fleet.client().await?;
    // Large enough that news travels in a small part of an evaluation of all twenty.
    let stays = |seed| small(PROMPT).width(128).height(128).num_inference_steps(12).seed(seed);
    let leaves = |seed| endless(PROMPT).width(128).height(128).seed(seed);
    let mut alone = Vec::new();
    for seed in 0..10 {
        alone.push(image(&client, stays(seed)).await?);
    }

    let (mut staying, mut leaving) = (Vec::new(), Vec::new());
    for seed in 0..10 {
        leaving.push(client.generate(leaves(seed)).await?);
        staying.push(client.generate(stays(seed)).await?);
    }
    for generation in staying.iter_mut().chain(&mut leaving) {
        first_step(generation).await?;
    }
    let mut denoiser = DenoiserClient::new(fleet.channel(Service::Denoiser)?);
    let passes = async || anyhow::Ok(fleet.metrics(Service::Denoiser).await?.sum("darkroom_step_seconds_count", &[]));
    assert_eq!(denoiser.get_load(GetLoadRequest {}).await?.get_ref().running, 20, "all are in the batch");
    let before = passes().await?;
    drop(leaving);
    wait::until("ten free places", async || {
        let load = denoiser.get_load(GetLoadRequest {}).await?.into_inner();
        Ok((load.running <= 10).then_some(()))
    })
    .await?;
    // One was running when they left, and one may have begun while the news was under way.
    let took = passes().await? - before;
    assert!(took <= 2.0, "{took} evaluations until their places were free");

    for (mut generation, alone) in staying.into_iter().zip(&alone) {
        let mut made = None;
        while let Some(event) = generation.next().await {
            if let Event::Image(image) = event? {
                made = Some(image);
            }
        }
        assert_eq!(made.as_ref(), Some(alone), "a neighbour's end changed a picture");
    }
    nothing_else_runs(&fleet, &client).await
}
