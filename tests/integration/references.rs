//! Whole pictures through the services against the references', all in one batch and each alone: the same bytes.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use darkroom_client::{Client, GenerateRequest, PromptSyntax, Rng};
use image::RgbImage;
use serde::Deserialize;
use testkit::fleet::Builder;

use crate::asking::image;
use crate::loras;
use crate::modifying::modified;

/// Of the `pictures.json` of `golden/settings`, `golden/prompts` and others of that form.
#[derive(Deserialize)]
struct Picture {
    file: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    prompt: String,
    #[serde(default)]
    negative_prompt: String,
    prompt_syntax: Option<String>,
    sampler: String,
    num_inference_steps: u32,
    guidance_scale: f64,
    seed: u64,
    /// Width and height.
    size: Option<(u32, u32)>,
    sigma_spacing: Option<String>,
    hires: Option<(u32, u32, f64)>,
    rng: Option<String>,
    variation_strength: Option<f64>,
    variation_seed: Option<u64>,
    #[serde(default)]
    loras: Vec<(String, f64)>,
}

impl Request {
    fn build(&self) -> GenerateRequest {
        let mut request = GenerateRequest::new(&self.prompt)
            .negative_prompt(&self.negative_prompt)
            .sampler(&self.sampler)
            .num_inference_steps(self.num_inference_steps)
            .guidance_scale(self.guidance_scale)
            .seed(self.seed);
        if let Some((width, height)) = self.size {
            request = request.width(width).height(height);
        }
        if let Some(spacing) = &self.sigma_spacing {
            request = request.sigma_spacing(spacing);
        }
        if let Some((width, height, strength)) = self.hires {
            request = request.hires(width, height).hires_strength(strength);
        }
        if self.prompt_syntax.as_deref() == Some("weighted") {
            request = request.prompt_syntax(PromptSyntax::Weighted);
        }
        if self.rng.as_deref() == Some("cuda") {
            request = request.rng(Rng::Cuda);
        }
        for (name, weight) in &self.loras {
            request = request.lora(name, *weight);
        }
        if let (Some(strength), Some(seed)) = (self.variation_strength, self.variation_seed) {
            request = request.variation_strength(strength).variation_seed(seed);
        }
        request
    }
}

/// As the references computed.
pub(crate) fn in_f32(fleet: Builder) -> Builder {
    fleet
        .text_encoder(|config| config.model.precision = "f32".into())
        .denoiser(|config| config.model.precision = "f32".into())
        .vae(|config| config.model.precision = "f32".into())
}

/// All at once, and then one after the other: the same bytes, and the references' pictures. Prints the table of the differences.
pub(crate) async fn compare(client: &Client, pictures: Vec<(PathBuf, GenerateRequest)>) -> anyhow::Result<()> {
    async fn file(client: Client, request: GenerateRequest) -> anyhow::Result<Vec<u8>> {
        Ok(image(&client, request).await?.data().to_vec())
    }
    let together = pictures.iter().map(|(_, request)| tokio::spawn(file(client.clone(), request.clone())));
    let together: Vec<_> = together.collect();
    let mut lines = Vec::new();
    for ((path, request), together) in pictures.into_iter().zip(together) {
        let together = together.await??;
        lines.push(check(&path, &image::load_from_memory(&together)?.into_rgb8())?);
        let alone = file(client.clone(), request).await?;
        ensure!(alone == together, "{} depends on who else is in the batch", path.display());
    }
    println!("| picture | values that differ | of | by at most |\n| --- | --- | --- | --- |\n{}", lines.join("\n"));
    Ok(())
}

/// Within a level of 255 for 99.9 % of the values. A line of the table.
fn check(path: &Path, found: &RgbImage) -> anyhow::Result<String> {
    let expected = image::open(path)?.into_rgb8();
    let names: Vec<_> = path.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
    let file = format!("{}/{}", names[1], names[0]);
    ensure!(found.dimensions() == expected.dimensions(), "{file}: {:?}", found.dimensions());
    let differences: Vec<u8> = found.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).collect();
    let far = differences.iter().filter(|difference| **difference > 1).count();
    let other = differences.iter().filter(|difference| **difference > 0).count();
    let largest = differences.iter().max().copied().unwrap_or(0);
    ensure!(far * 1000 <= differences.len(), "{file}: {far} values are off by more than one level");
    Ok(format!("| {file} | {other} | {} | {largest} |", differences.len()))
}

/// The pictures that a folder's `pictures.json` lists, with their requests.
pub(crate) fn listed(folder: &str) -> anyhow::Result<Vec<(PathBuf, GenerateRequest)>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let pictures: Vec<Picture> = serde_json::from_slice(&std::fs::read(folder.join("pictures.json"))?)?;
    ensure!(!pictures.is_empty());
    Ok(pictures.iter().map(|picture| (folder.join(&picture.file), picture.request.build())).collect())
}

/// Everything that changes a picture, in one batch: begun from pictures, masked, all samplers, spacings, noises and second passes, prompts
/// of one window and of several, LoRAs, and plain ones beside them.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_changes_a_picture_gives_the_references_in_one_batch() -> anyhow::Result<()> {
    let fleet = in_f32(loras::with(loras::golden())).start().await?;
    let client = fleet.client().await?;
    let mut pictures = modified(&["img2img", "inpaint"])?;
    for folder in ["golden/settings", "golden/prompts", "golden/loras"] {
        pictures.extend(listed(folder)?);
    }
    compare(&client, pictures).await
}
