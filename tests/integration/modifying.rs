//! Pictures that begin from a picture, through the services, whatever happens to the denoisers. `references.rs` has those of the embedded
//! model.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use darkroom_client::{GenerateRequest, StrengthWay};
use serde::Deserialize;
use testkit::fleet::Fleet;
use testkit::formats::{Precision, Saving};
use testkit::seeded::{self, Configs};

use crate::asking::{image, refusal};
use crate::references::{compare, in_f32};

const PROMPT: &str = "a green star on a white background";

/// `pictures.json`.
#[derive(Deserialize)]
struct Picture {
    file: String,
    kind: String,
    way: String,
    size: u32,
    sampler: String,
    num_inference_steps: u32,
    strength: f64,
    seed: u64,
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(file)
}

fn pictures(kinds: &[&str]) -> anyhow::Result<Vec<Picture>> {
    let pictures: Vec<Picture> = serde_json::from_slice(&std::fs::read(golden("modified/pictures.json"))?)?;
    Ok(pictures.into_iter().filter(|picture| kinds.contains(&picture.kind.as_str())).collect())
}

impl Picture {
    fn request(&self) -> anyhow::Result<GenerateRequest> {
        let way = if self.way == "compvis" { StrengthWay::CompVis } else { StrengthWay::Diffusers };
        let request = GenerateRequest::new(PROMPT)
            .init_image(std::fs::read(golden("models/pocket/plms.png"))?)
            .width(self.size)
            .height(self.size)
            .strength(self.strength)
            .strength_way(way)
            .sampler(&self.sampler)
            .num_inference_steps(self.num_inference_steps)
            .guidance_scale(2.0)
            .seed(self.seed);
        Ok(match self.kind.as_str() {
            "inpaint" => request.mask_image(std::fs::read(golden("modified/mask.png"))?),
            "inpaint9" => request.mask_image(std::fs::read(golden("modified/mask-64.png"))?),
            _ => request,
        })
    }
}

/// The references' pictures of these kinds, and the requests for them.
pub(crate) fn modified(kinds: &[&str]) -> anyhow::Result<Vec<(PathBuf, GenerateRequest)>> {
    let pictures = pictures(kinds)?;
    pictures.iter().map(|picture| Ok((golden("modified").join(&picture.file), picture.request()?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inpainting_unet_repaints_as_diffusers_has_it() -> anyhow::Result<()> {
    let mut configs = Configs::tiny()?;
    configs.unet.in_channels = 9;
    let tensors = seeded::model(&configs, 1);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tiny-inpainting.safetensors");
    Saving { configs: &configs, tensors: &tensors, precision: Precision::F32 }.single_safetensors(&path)?;
    let fleet = in_f32(Fleet::with_model(&path)).start().await?;
    let client = fleet.client().await?;
    ensure!(client.list_models().await?.first().context("a model")?.inpainting);
    let error = refusal(&client, GenerateRequest::new(PROMPT)).await;
    ensure!(error.to_string().contains("init_image"), "{error}");
    compare(&client, modified(&["inpaint9"])?).await
}

#[tokio::test]
async fn what_is_not_masked_keeps_every_pixel() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let picture = &pictures(&["inpaint"])?[0];
    let result = image::load_from_memory(image(&fleet.client().await?, picture.request()?).await?.data())?.into_rgb8();
    let original = image::open(golden("models/pocket/plms.png"))?.into_rgb8();
    let mask = image::open(golden("modified/mask.png"))?.into_luma8();
    let mut changed = 0;
    for ((found, before), mask) in result.pixels().zip(original.pixels()).zip(mask.pixels()) {
        ensure!(mask.0[0] > 0 || found == before, "{found:?} was {before:?}");
        changed += usize::from(found != before);
    }
    ensure!(changed > 1000, "only {changed} pixels were made anew");
    Ok(())
}
