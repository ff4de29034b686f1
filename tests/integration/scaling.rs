//! Denoisers come and go by the signal alone, as processes: the first one from none, and one too many under load.

use darkroom_client::{Client, GenerateRequest, Image, OutputFormat};
use testkit::fleet::Service;
use testkit::load::autoscale::keda::{Keda, Settings};
use testkit::load::autoscale::scene::Machine;
use testkit::load::autoscale::stand::{Stand, ready};
use testkit::processes::Processes;
use testkit::scrape::http_get;
use testkit::wait;
use tokio::task::JoinSet;

use crate::asking::{image, small};

const SIGNAL: &str = "darkroom_queued_work_seconds";
const PROMPT: &str = "a red circle on a white background";
const REQUESTS: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn work_is_seen_without_any_denoiser_and_done_when_one_is_started_for_it() -> anyhow::Result<()> {
    let flags = ["--no-worker-wait-seconds=100", "--check-interval-ms=50"].map(String::from);
    let mut stand = Stand::start(Machine::Fast, 20.0, 2, &flags).await?;
    let client = stand.client().await?;
    let mut keda = Keda::new(Settings::USUAL);
    // At first none was ever seen; then the one there was has gone.
    for round in 0..2 {
        // Behind a Service only who is ready is asked.
        assert_eq!(http_get(stand.metrics_address(), "/readyz").await?, (200, "ready\n".into()), "round {round}");
        assert_eq!(stand.metrics().await?.sum(SIGNAL, &[]), 0.0);
        let asked = GenerateRequest::new(PROMPT).num_inference_steps(20).output_format(OutputFormat::Latents);
        let asker = client.clone();
        let asking = tokio::spawn(async move { image(&asker, asked).await });
        stand.sees("work that waits for a denoiser", |metrics| metrics.sum(SIGNAL, &[]) > 0.0).await?;
        let work = stand.metrics().await?.sum(SIGNAL, &[]);
        assert_eq!(keda.poll(work, 0, std::time::Instant::now()), 1, "round {round}: {work} s of work are nothing");
        let place = stand.start_denoiser().await?;
        wait::within("the picture", async { asking.await? }).await?;
        stand.sees("the end of the work", |metrics| metrics.sum(SIGNAL, &[]) == 0.0).await?;
        stand.stop_denoiser(place).await?;
        stand.sees("no denoiser", |metrics| ready(metrics, "denoiser") == 0.0).await?;
    }
    Ok(())
}

/// All pictures, asked for at once.
async fn pictures(client: &Client) -> anyhow::Result<Vec<Image>> {
    let mut asking = JoinSet::new();
    for seed in 0..REQUESTS {
        let client = client.clone();
        let request = small(PROMPT).num_inference_steps(200).seed(seed);
        asking.spawn(async move { (seed, image(&client, request).await) });
    }
    let mut pictures = Vec::new();
    while let Some(answer) = asking.join_next().await {
        let (seed, picture) = answer?;
        pictures.push((seed, picture.map_err(|error| error.context(format!("seed {seed}")))?));
    }
    pictures.sort_by_key(|(seed, _)| *seed);
    Ok(pictures.into_iter().map(|(_, picture)| picture).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denoiser_that_is_scaled_away_under_load_costs_no_request_and_changes_no_byte() -> anyhow::Result<()> {
    let mut fleet =
        Processes::start([1, 2, 1], &["--check-interval-ms", "100", "--keep-finished-seconds", "0"]).await?;
    let client = fleet.client().await?;
    let quiet = pictures(&client).await?;

    let asker = client.clone();
    let asking = tokio::spawn(async move { pictures(&asker).await });
    let leaver = fleet.member(Service::Denoiser, 1)?;
    let before = leaver.metrics().await?.sum("darkroom_steps_total", &[]);
    wait::until("work at the one that shall leave", async || {
        Ok((leaver.metrics().await?.sum("darkroom_steps_total", &[]) > before + 20.0).then_some(()))
    })
    .await?;
    leaver.program.terminate().await?;
    assert_eq!(leaver.program.wait().await?.code(), Some(0));
    let made = wait::within("all pictures", async { asking.await? }).await?;
    assert!(made == quiet, "other bytes than in peace");

    let metrics = fleet.metrics().await?;
    assert!(metrics.sum("darkroom_resumes_total", &[("reason", "drained")]) > 0.0, "nothing had to go elsewhere");
    assert_eq!(metrics.sum("darkroom_images_failed_total", &[]), 0.0);
    assert_eq!(metrics.sum("darkroom_repeated_steps_total", &[]), 0.0, "who leaves hands over its last checkpoint");
    Ok(())
}
