//! Requests that are refused: each with its field, its value and what would be allowed, and nothing broken afterwards.

use darkroom_client::{Client, Code, Event, GenerateRequest};
use testkit::fleet::{Fleet, Service};
use testkit::wait;
use tokio_stream::StreamExt as _;

use crate::asking::{endless, image, refusal, small};

const PROMPT: &str = "a red circle on a white background";

/// Refuses `request` for `field`, with all of `words` in the message, and makes a picture right after it.
async fn is_refused(request: GenerateRequest, field: &str, words: &[&str]) -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let error = refusal(&client, request).await;
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let [violation] = error.field_violations() else { panic!("one field: {:?}", error.field_violations()) };
    assert_eq!(violation.field, field, "{error}");
    let message = error.to_string();
    for word in [&[field], words].concat() {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    // Refused at the door: no stage heard of it, and the next request is served.
    assert_eq!(fleet.metrics(Service::Denoiser).await?.sum("darkroom_steps_total", &[]), 0.0);
    works(&client).await
}

async fn works(client: &Client) -> anyhow::Result<()> {
    image(client, small(PROMPT)).await.map(drop)
}

#[tokio::test]
async fn an_empty_prompt() -> anyhow::Result<()> {
    is_refused(small(""), "prompt", &["empty"]).await
}

#[tokio::test]
async fn a_prompt_of_ten_thousand_characters() -> anyhow::Result<()> {
    is_refused(small(&"ü".repeat(10_000)), "prompt", &["10000", "8192"]).await
}

#[tokio::test]
async fn a_negative_prompt_of_ten_thousand_characters() -> anyhow::Result<()> {
    is_refused(small(PROMPT).negative_prompt("x".repeat(10_000)), "negative_prompt", &["10000", "8192"]).await
}

#[tokio::test]
async fn width_500() -> anyhow::Result<()> {
    is_refused(small(PROMPT).width(500), "width", &["500", "8", "64", "2048"]).await
}

#[tokio::test]
async fn width_0() -> anyhow::Result<()> {
    is_refused(small(PROMPT).width(0), "width", &["0", "64", "2048"]).await
}

#[tokio::test]
async fn height_100000() -> anyhow::Result<()> {
    is_refused(small(PROMPT).height(100_000), "height", &["100000", "64", "2048"]).await
}

#[tokio::test]
async fn steps_0() -> anyhow::Result<()> {
    is_refused(small(PROMPT).num_inference_steps(0), "num_inference_steps", &["0", "1000"]).await
}

#[tokio::test]
async fn steps_100000() -> anyhow::Result<()> {
    is_refused(small(PROMPT).num_inference_steps(100_000), "num_inference_steps", &["100000", "1000"]).await
}

#[tokio::test]
async fn no_pictures() -> anyhow::Result<()> {
    is_refused(small(PROMPT).num_images(0), "num_images", &["0", "16"]).await
}

#[tokio::test]
async fn a_thousand_pictures() -> anyhow::Result<()> {
    is_refused(small(PROMPT).num_images(1000), "num_images", &["1000", "16"]).await
}

#[tokio::test]
async fn an_unknown_sampler() -> anyhow::Result<()> {
    is_refused(small(PROMPT).sampler("magic"), "sampler", &["magic", "plms", "euler_a"]).await
}

#[tokio::test]
async fn an_unknown_model() -> anyhow::Result<()> {
    is_refused(small(PROMPT).model("sdxl"), "model", &["sdxl", "pocket"]).await
}

#[tokio::test]
async fn a_scale_that_is_no_number() -> anyhow::Result<()> {
    is_refused(small(PROMPT).guidance_scale(f64::NAN), "guidance_scale", &["NaN", "0", "50"]).await
}

#[tokio::test]
async fn an_infinite_scale() -> anyhow::Result<()> {
    is_refused(small(PROMPT).guidance_scale(f64::INFINITY), "guidance_scale", &["inf", "0", "50"]).await
}

#[tokio::test]
async fn a_negative_scale() -> anyhow::Result<()> {
    is_refused(small(PROMPT).guidance_scale(-1.0), "guidance_scale", &["-1", "0", "50"]).await
}

#[tokio::test]
async fn eta_for_another_sampler() -> anyhow::Result<()> {
    is_refused(small(PROMPT).sampler("plms").eta(0.5), "eta", &["0.5", "ddim"]).await
}

#[tokio::test]
async fn eta_that_is_no_number() -> anyhow::Result<()> {
    is_refused(small(PROMPT).sampler("ddim").eta(f64::NAN), "eta", &["NaN", "0", "1"]).await
}

#[tokio::test]
async fn more_layers_skipped_than_there_are() -> anyhow::Result<()> {
    is_refused(small(PROMPT).clip_skip(3), "clip_skip", &["3", "2"]).await
}

#[tokio::test]
async fn a_request_id_with_a_line_break() -> anyhow::Result<()> {
    is_refused(small(PROMPT).request_id("one\ntwo"), "request_id", &["printable ASCII"]).await
}

#[tokio::test]
async fn a_stage_that_never_came() -> anyhow::Result<()> {
    for stage in Service::STAGES {
        let fleet = Fleet::with_pocket_model().without(stage).start().await?;
        let error = refusal(&fleet.client().await?, small(PROMPT)).await;
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.to_string().contains(stage.name()), "{} is not named: {error}", stage.name());
    }
    Ok(())
}

#[tokio::test]
async fn a_text_encoder_that_went_away() -> anyhow::Result<()> {
    goes_away(Service::TextEncoder).await
}

#[tokio::test]
async fn a_denoiser_that_went_away() -> anyhow::Result<()> {
    goes_away(Service::Denoiser).await
}

#[tokio::test]
async fn a_vae_that_went_away() -> anyhow::Result<()> {
    goes_away(Service::Vae).await
}

async fn goes_away(stage: Service) -> anyhow::Result<()> {
    let mut fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    works(&client).await?;
    fleet.stop(stage).await?;
    let error = refusal(&client, small("another prompt, which no cache holds")).await;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.to_string().contains(stage.name()), "{} is not named: {error}", stage.name());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denoiser_that_dies_at_work() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let mut generation = client.generate(endless(PROMPT)).await?;
    let error = wait::within("the end of the request", async {
        while let Some(event) = generation.next().await {
            match event {
                Ok(Event::Step(_)) => fleet.kill(Service::Denoiser),
                Ok(_) => {}
                Err(error) => return Ok(error),
            }
        }
        anyhow::bail!("it ended well")
    })
    .await?;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.to_string().contains("denoiser"), "{error}");
    Ok(())
}
