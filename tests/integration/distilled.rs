//! UNets that were distilled to look at the guidance scale: one row a picture, and the pictures of diffusers.

use anyhow::{Context as _, ensure};
use darkroom_client::{Event, GenerateRequest};
use testkit::fleet::Fleet;
use testkit::formats::{Precision, Saving};
use testkit::seeded::{self, Configs};
use tokio_stream::StreamExt as _;

use crate::references::{compare, in_f32, listed};

#[tokio::test(flavor = "multi_thread")]
async fn a_distilled_unet_sees_the_guidance_scale_as_diffusers_has_it() -> anyhow::Result<()> {
    let mut configs = Configs::tiny()?;
    configs.unet.time_cond_proj_dim = Some(32);
    let tensors = seeded::model(&configs, 1);
    let folder = tempfile::tempdir()?;
    // A single file tells it by a tensor.
    let path = folder.path().join("tiny-distilled.safetensors");
    Saving { configs: &configs, tensors: &tensors, precision: Precision::F32 }.single_safetensors(&path)?;
    let fleet = in_f32(Fleet::with_model(&path)).start().await?;
    let client = fleet.client().await?;
    ensure!(client.list_models().await?.first().context("a model")?.embedded_guidance);
    compare(&client, listed("golden/distilled")?).await?;

    // What it cannot hear is told.
    let request = GenerateRequest::new("a horse").negative_prompt("a cow").num_inference_steps(2).width(64).height(64);
    let mut events = client.generate(request).await?;
    let mut warned = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Completed(completed) = event? {
            warned = completed.warnings.iter().map(|warning| warning.field.clone()).collect();
        }
    }
    ensure!(warned == ["negative_prompt"], "{warned:?}");
    Ok(())
}
