//! Pictures that begin from a picture, through the services: the references' own, alone and all in one batch, whatever happens
//! to the denoisers.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use darkroom_client::{Client, GenerateRequest, StrengthWay};
use image::RgbImage;
use serde::Deserialize;
use testkit::fleet::{Builder, Fleet};
use testkit::formats::{Precision, Saving};
use testkit::seeded::{self, Configs};

use crate::asking::{image, refusal};

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

    /// Within a level of 255 for 99.9 % of the values.
    fn check(&self, found: &RgbImage) -> anyhow::Result<()> {
        let expected = image::open(golden("modified").join(&self.file))?.into_rgb8();
        ensure!(found.dimensions() == expected.dimensions(), "{}: {:?}", self.file, found.dimensions());
        let differences: Vec<u8> = found.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).collect();
        let far = differences.iter().filter(|difference| **difference > 1).count();
        let other = differences.iter().filter(|difference| **difference > 0).count();
        let largest = differences.iter().max().copied().unwrap_or(0);
        println!("{}: {other} of {} values differ, by {largest} at most", self.file, differences.len());
        ensure!(far * 1000 <= differences.len(), "{}: {far} values are off by more than one level", self.file);
        Ok(())
    }
}

/// As the references computed.
fn in_f32(fleet: Builder) -> Builder {
    fleet
        .text_encoder(|config| config.model.precision = "f32".into())
        .denoiser(|config| config.model.precision = "f32".into())
        .vae(|config| config.model.precision = "f32".into())
}

async fn file(client: &Client, request: GenerateRequest) -> anyhow::Result<Vec<u8>> {
    Ok(image(client, request).await?.data().to_vec())
}

/// All at once, and then one after the other: the same bytes, and the references' pictures.
async fn compare(fleet: &Fleet, pictures: &[Picture]) -> anyhow::Result<()> {
    let client = fleet.client().await?;
    let together = pictures.iter().map(|picture| {
        let client = client.clone();
        let request = picture.request();
        tokio::spawn(async move { file(&client, request?).await })
    });
    let together: Vec<_> = together.collect();
    for (picture, together) in pictures.iter().zip(together) {
        let together = together.await??;
        picture.check(&image::load_from_memory(&together)?.into_rgb8())?;
        let alone = file(&client, picture.request()?).await?;
        ensure!(alone == together, "{} depends on who else is in the batch", picture.file);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_modified_as_the_references_do() -> anyhow::Result<()> {
    let fleet = in_f32(Fleet::with_pocket_model()).start().await?;
    compare(&fleet, &pictures(&["img2img", "inpaint"])?).await
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
    compare(&fleet, &pictures(&["inpaint9"])?).await
}

#[tokio::test]
async fn what_is_not_masked_keeps_every_pixel() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let picture = &pictures(&["inpaint"])?[0];
    let result = image::load_from_memory(&file(&fleet.client().await?, picture.request()?).await?)?.into_rgb8();
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
