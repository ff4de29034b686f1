//! The tiny model on disk in the three layouts that people have: the same weights give the same bytes whatever they came in.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use darkroom_models::source::ModelSource;
use darkroom_models::stage::{self, UnetRow};
use tempfile::TempDir;
use testkit::formats::{CheckpointExtras, Precision, Saving};
use testkit::seeded::{self, Configs};

use crate::golden::EXACT;

/// The seed of the weights in `make_models.py`.
const SEED: u64 = 1;

/// A seeded tiny model in a folder of its own.
pub(crate) struct Tiny {
    at: PathBuf,
    _kept: TempDir,
}

/// How a model is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Folder,
    Safetensors,
    /// With the objects that PyTorch Lightning leaves in a checkpoint, and averages that nobody asks for.
    Checkpoint,
}

impl Tiny {
    /// As a diffusers folder.
    pub(crate) fn folder() -> Result<Self> {
        Self::save(Layout::Folder)
    }

    fn save(layout: Layout) -> Result<Self> {
        let kept = tempfile::tempdir()?;
        let configs = Configs::tiny()?;
        let tensors = seeded::model(&configs, SEED);
        let saving = Saving { configs: &configs, tensors: &tensors, precision: Precision::F32 };
        let at = kept.path().join(match layout {
            Layout::Folder => "tiny",
            Layout::Safetensors => "tiny.safetensors",
            Layout::Checkpoint => "tiny.ckpt",
        });
        match layout {
            Layout::Folder => saving.folder(&at)?,
            Layout::Safetensors => saving.single_safetensors(&at)?,
            Layout::Checkpoint => {
                let averages = seeded::model(&configs, SEED + 1);
                saving.checkpoint(&at, &CheckpointExtras { ema: Some(&averages), lightning: true })?;
            }
        }
        Ok(Self { at, _kept: kept })
    }

    pub(crate) fn source(&self) -> Result<ModelSource> {
        Ok(ModelSource::resolve(self.at.to_str(), Default::default())?)
    }
}

#[test]
fn three_layouts_compute_the_same_bytes() -> Result<()> {
    let expected = compute(&Tiny::folder()?.source()?)?;
    for layout in [Layout::Safetensors, Layout::Checkpoint] {
        let found = compute(&Tiny::save(layout)?.source()?).with_context(|| format!("{layout:?}"))?;
        for ((what, found), (_, expected)) in found.iter().zip(&expected) {
            ensure!(found == expected, "{what} of {layout:?} is not that of the folder");
        }
    }
    Ok(())
}

/// What every network makes of fixed inputs, from the prompt to the picture.
fn compute(source: &ModelSource) -> Result<[(&'static str, Vec<f32>); 4]> {
    const SIDE: usize = 8;
    let ids = source.tokenizer()?.encode("a photograph of an astronaut riding a horse").ids;
    let prompt_embeds = stage::load_text_encoder(source, &EXACT)?.encode(&[ids], 0)?.concat();

    let mut unet = stage::load_unet(source, &EXACT)?;
    let context = unet.context(&prompt_embeds, 77)?;
    let latents: Vec<f32> = (0..4 * SIDE * SIDE).map(|i| (i as f32 * 0.7).sin()).collect();
    let row = UnetRow { latents: &latents, timestep: 621.0, context: &context, guidance_scale: None };
    let noise_pred = unet.predict(&[row], SIDE, SIDE)?.concat();

    let mut vae = stage::load_vae(source, &EXACT)?;
    let picture = vae.decode(&noise_pred, SIDE, SIDE)?;
    let mean = vae.encode(&picture, 8 * SIDE, 8 * SIDE)?.mean;
    Ok([("prompt_embeds", prompt_embeds), ("noise_pred", noise_pred), ("picture", picture), ("posterior", mean)])
}
