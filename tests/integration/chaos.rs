//! Processes are killed, frozen and told to leave while sixty requests run: all sixty pictures come, with the bytes of a quiet run.

use std::collections::BTreeMap;
use std::time::Duration;

use darkroom_client::{Client, Event, GenerateRequest, Image};
use testkit::fleet::Service;
use testkit::processes::Processes;
use testkit::wait;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tokio_stream::StreamExt as _;

use crate::asking::SIDE;

const REQUESTS: u64 = 60;
const SAMPLERS: [&str; 8] = ["plms", "ddim", "dpmpp_2m", "euler", "euler_a", "heun", "dpm2", "unipc"];
const PROMPTS: [&str; 4] = [
    "a red circle on a white background",
    "a large yellow star on a blue background",
    "two green hearts on a black background",
    "a purple square left of an orange triangle on a white background",
];
/// Between two kills.
const PAUSE: Duration = Duration::from_secs(2);

/// The n-th of the requests: every sampler, scales with and without guidance, from few steps to many.
fn request(n: u64) -> GenerateRequest {
    let pick = |count: usize| usize::try_from(n).expect("a small number") % count;
    let scale = if n % 4 == 3 { 1.0 } else { 7.5 };
    let steps = [60, 90, 120, 150, 200, 250][pick(6)];
    GenerateRequest::new(PROMPTS[pick(4)])
        .width(SIDE)
        .height(SIDE)
        .num_inference_steps(steps)
        .sampler(SAMPLERS[pick(8)])
        .guidance_scale(scale)
        .seed(n)
}

/// The picture of one request, whose steps must come once each and in order, whatever happens behind them.
async fn picture(client: &Client, request: GenerateRequest) -> anyhow::Result<Image> {
    let (mut generation, mut last, mut image) = (client.generate(request).await?, 0, None);
    while let Some(event) = generation.next().await {
        match event? {
            Event::Step(step) => {
                anyhow::ensure!(step.step > last, "step {} after step {last}", step.step);
                last = step.step;
            }
            Event::Image(made) => image = Some(made),
            Event::ImageFailed(failed) => anyhow::bail!("the picture failed: {}", failed.message),
            _ => {}
        }
    }
    image.ok_or_else(|| anyhow::anyhow!("the request ended without a picture"))
}

/// All pictures, asked for at once.
async fn pictures(client: &Client) -> anyhow::Result<BTreeMap<u64, Image>> {
    let mut asking = JoinSet::new();
    for n in 0..REQUESTS {
        let client = client.clone();
        asking.spawn(async move { (n, picture(&client, request(n)).await) });
    }
    let mut pictures = BTreeMap::new();
    while let Some(answer) = asking.join_next().await {
        let (n, picture) = answer?;
        pictures.insert(n, picture.map_err(|error| error.context(format!("request {n}")))?);
    }
    Ok(pictures)
}

/// Kills one of the first two denoisers every two seconds and starts it again; freezes the third for a while; tells a VAE to
/// leave. Goes on until it is dropped.
async fn havoc(fleet: &mut Processes) -> anyhow::Result<()> {
    let mut beat = interval(PAUSE);
    beat.tick().await;
    sleep(PAUSE / 4).await;
    fleet.member(Service::Denoiser, 2)?.program.signal("STOP").await?;
    fleet.member(Service::Vae, 0)?.program.terminate().await?;
    for turn in 0.. {
        beat.tick().await;
        let victim = fleet.member(Service::Denoiser, turn % 2)?;
        victim.kill().await?;
        victim.start_again()?;
        if turn == 2 {
            fleet.member(Service::Denoiser, 2)?.program.signal("CONT").await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_of_sixty_pictures_come_whatever_happens_to_their_workers() -> anyhow::Result<()> {
    let flags = ["--check-interval-ms", "100", "--hang-floor-ms", "1000", "--keep-finished-seconds", "0"];
    let mut fleet = Processes::start([2, 3, 2], &flags).await?;
    let client = fleet.client().await?;
    let quiet = wait::within("sixty pictures in peace", pictures(&client)).await?;
    assert_eq!(fleet.metrics().await?.sum("darkroom_resumes_total", &[]), 0.0, "nothing has happened yet");

    let made = tokio::select! {
        made = wait::within("sixty pictures in chaos", pictures(&client)) => made?,
        failed = havoc(&mut fleet) => anyhow::bail!("the havoc ended: {failed:?}"),
    };
    assert_eq!(made.len() as u64, REQUESTS);
    for (n, image) in &made {
        assert!(image == &quiet[n], "request {n}: not the bytes of the quiet run");
    }

    let metrics = fleet.metrics().await?;
    let resumes = |reason| metrics.sum("darkroom_resumes_total", &[("reason", reason)]);
    let all = metrics.sum("darkroom_resumes_total", &[]);
    let repeated = metrics.sum("darkroom_repeated_steps_total", &[]);
    let saved = metrics.sum("darkroom_resumed_evaluations_total", &[]);
    println!(
        "{all} resumes ({} died, {} hung), {saved} evaluations saved, {repeated} steps repeated",
        resumes("died"),
        resumes("hung")
    );
    assert!(resumes("died") > 0.0 && resumes("hung") > 0.0, "{all} resumes");
    assert!(saved > 0.0);
    // A checkpoint follows each evaluation of so small a picture, or every other one while they take a few milliseconds: only
    // what was told in between can be lost.
    assert!(repeated <= 2.0 * all, "{repeated} steps were repeated in {all} resumes");
    assert_eq!(metrics.sum("darkroom_checkpoint_bytes", &[]), 0.0);
    assert_eq!(metrics.sum("darkroom_images_failed_total", &[]), 0.0);
    // The one that was told to leave did so in peace.
    let left = fleet.member(Service::Vae, 0)?.program.wait().await?;
    assert_eq!(left.code(), Some(0));
    Ok(())
}
