//! How these tests ask for pictures: small ones, of few steps, everything collected.

use darkroom_client::{Client, Error, Event, GenerateRequest, Generation, Image};
use testkit::wait;
use tokio_stream::StreamExt as _;

/// The smallest side that the contract allows.
pub(crate) const SIDE: u32 = 64;
/// Enough for every sampler's history to be used.
pub(crate) const STEPS: u32 = 4;

/// A request that is done in a moment and always gives the same picture.
pub(crate) fn small(prompt: &str) -> GenerateRequest {
    GenerateRequest::new(prompt).width(SIDE).height(SIDE).num_inference_steps(STEPS).seed(7)
}

/// A request that needs far more time than a test would wait.
pub(crate) fn endless(prompt: &str) -> GenerateRequest {
    GenerateRequest::new(prompt).width(256).height(256).num_inference_steps(1000).seed(7)
}

/// All events of a request, to the end.
pub(crate) async fn events(client: &Client, request: GenerateRequest) -> Result<Vec<Event>, Error> {
    let collect = async {
        let mut generation = client.generate(request).await?;
        let mut events = Vec::new();
        while let Some(event) = generation.next().await {
            events.push(event?);
        }
        Ok(events)
    };
    // The outer result is this test's patience, the inner one the server's answer.
    wait::within("the end of a request", async { Ok(collect.await) }).await.expect("a request that ends")
}

/// The request's pictures, in their order.
pub(crate) async fn images(client: &Client, request: GenerateRequest) -> anyhow::Result<Vec<Image>> {
    let mut images = Vec::new();
    for event in events(client, request).await? {
        match event {
            Event::Image(image) => images.push(image),
            Event::ImageFailed(failed) => anyhow::bail!("picture {} failed: {}", failed.image_index, failed.message),
            _ => {}
        }
    }
    images.sort_by_key(|image| image.image_index);
    Ok(images)
}

/// The picture of a request for one.
pub(crate) async fn image(client: &Client, request: GenerateRequest) -> anyhow::Result<Image> {
    let mut images = images(client, request).await?;
    anyhow::ensure!(images.len() == 1, "{} pictures", images.len());
    Ok(images.remove(0))
}

/// Why a request is refused.
pub(crate) async fn refusal(client: &Client, request: GenerateRequest) -> Error {
    events(client, request).await.expect_err("a refusal")
}

/// A request that holds the only slot.
pub(crate) async fn busy(client: &Client, prompt: &str) -> anyhow::Result<Generation> {
    let mut running = client.generate(endless(prompt)).await?;
    next(&mut running, |event| matches!(event, Event::Step(_)).then_some(())).await?;
    Ok(running)
}

/// The first event that `choose` makes something of.
pub(crate) async fn next<T>(generation: &mut Generation, choose: impl Fn(Event) -> Option<T>) -> anyhow::Result<T> {
    wait::within("an event", async {
        while let Some(event) = generation.next().await {
            if let Some(found) = choose(event?) {
                return Ok(found);
            }
        }
        anyhow::bail!("the request ended before it")
    })
    .await
}
