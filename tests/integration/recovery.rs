//! A denoiser's process is killed at a known evaluation: the picture is the same, and its steps go on.

use darkroom_client::{Client, Event, GenerateRequest, Image};
use testkit::fleet::Service;
use testkit::processes::Processes;
use tokio_stream::StreamExt as _;

use crate::asking::{image, small};

const PROMPT: &str = "a red circle on a white background";
const STEPS: u32 = 200;

fn long(sampler: &str) -> GenerateRequest {
    small(PROMPT).num_inference_steps(STEPS).sampler(sampler)
}

/// A part of a picture, made anew.
fn masked(sampler: &str) -> anyhow::Result<GenerateRequest> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (picture, mask) = (golden.join("models/pocket/plms.png"), golden.join("modified/mask.png"));
    Ok(long(sampler).init_image(std::fs::read(picture)?).mask_image(std::fs::read(mask)?))
}

/// Draws the picture, and kills whoever works on it when `at` steps are done.
async fn killed_at(fleet: &mut Processes, client: &Client, request: GenerateRequest, at: u32) -> anyhow::Result<Image> {
    let mut before = Vec::new();
    for n in 0..2 {
        before.push(steps(fleet, n).await?);
    }
    let mut generation = client.generate(request).await?;
    let (mut image, mut last, mut killed) = (None, 0, false);
    while let Some(event) = generation.next().await {
        match event? {
            Event::Step(step) => {
                anyhow::ensure!(step.step > last, "step {} after step {last}", step.step);
                last = step.step;
                if last >= at && !killed {
                    killed = true;
                    let busy = if steps(fleet, 0).await? > before[0] { 0 } else { 1 };
                    fleet.member(Service::Denoiser, busy)?.kill().await?;
                    fleet.member(Service::Denoiser, busy)?.start_again()?;
                }
            }
            Event::Image(made) => image = Some(made),
            Event::ImageFailed(failed) => anyhow::bail!("the picture failed: {}", failed.message),
            _ => {}
        }
    }
    assert_eq!(last, STEPS, "the last step was told");
    image.ok_or_else(|| anyhow::anyhow!("no picture"))
}

async fn steps(fleet: &mut Processes, n: usize) -> anyhow::Result<f64> {
    Ok(fleet.member(Service::Denoiser, n)?.metrics().await?.sum("darkroom_steps_total", &[]))
}

#[tokio::test]
async fn a_picture_whose_denoiser_is_killed_has_the_same_bytes() -> anyhow::Result<()> {
    let flags = ["--check-interval-ms", "100"];
    let mut fleet = Processes::start([1, 2, 1], &flags).await?;
    let client = fleet.client().await?;
    let mut resumes = 0.0;
    let requests = [long("plms"), long("euler_a"), long("dpmpp_2m"), masked("euler_a")?];
    for (kind, request) in requests.into_iter().enumerate() {
        let quiet = image(&client, request.clone()).await?;
        for at in [1, STEPS / 2, STEPS * 3 / 4] {
            let disturbed = killed_at(&mut fleet, &client, request.clone(), at).await?;
            assert_eq!(disturbed, quiet, "request {kind}, killed after step {at}");
            let counted = fleet.metrics().await?.sum("darkroom_resumes_total", &[("reason", "died")]);
            assert_eq!(counted, resumes + 1.0, "request {kind}, killed after step {at}");
            resumes = counted;
            fleet.sees_workers(4).await?;
        }
    }
    Ok(())
}
