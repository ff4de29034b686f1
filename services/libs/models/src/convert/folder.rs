//! A model as a diffusers folder: a file a network, their configurations, the vocabulary and the schedule.

use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::ConvertError;
use super::model::Model;
use super::target::TargetFolder;
use super::tensors::{self, Outgoing};
use crate::config;
use crate::error::LoadError;
use crate::source::{Files, folder_of};
use crate::tokenizer::{CLIPS_CONFIG, CLIPS_FILES};
use crate::weights::{Part, names};

/// What a folder says beside its weights: copied as it is, where it is there.
const SAYINGS: [&str; 15] = [
    "model_index.json",
    "defaults.json",
    "latent_rgb.json",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
    "safety_checker/config.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/added_tokens.json",
];

/// Fills a folder; gives the number of tensors and their bytes.
pub(super) fn write(
    model: &Model<'_>,
    to: &TargetFolder,
    half: bool,
    stop: &AtomicBool,
) -> Result<(usize, u64), ConvertError> {
    match model.files() {
        Some(files) => copy(files, to)?,
        None => say(model, to)?,
    }
    let (mut count, mut bytes) = (0, 0);
    for network in &model.networks {
        let part = network.part;
        let stem =
            if matches!(part, Part::TextEncoder | Part::SafetyChecker) { "model" } else { "diffusion_pytorch_model" };
        // A checker's scores are compared in their third digit.
        let half = half && part != Part::SafetyChecker;
        let outgoing = network.tensors().map(|(name, stored)| {
            let (name, shape) = (names::to_diffusers(part, name), stored.shape().to_vec());
            Outgoing { name, shape, stored, half }
        });
        let outgoing: Vec<_> = outgoing.collect();
        let (file, path) = to.create_file(&format!("{}{stem}.safetensors", folder_of(part)))?;
        bytes += tensors::write(&file, &path, &outgoing, stop)?;
        file.sync_all().map_err(ConvertError::write(&path))?;
        count += outgoing.len();
    }
    Ok((count, bytes))
}

fn copy(files: &Files, to: &TargetFolder) -> Result<(), ConvertError> {
    for path in SAYINGS {
        if let Some(blob) = files.open(path)? {
            to.write(path, &blob)?;
        }
    }
    Ok(())
}

/// Says what a single file leaves to its reader.
fn say(model: &Model<'_>, to: &TargetFolder) -> Result<(), ConvertError> {
    let mut tokenizer: Value =
        serde_json::from_slice(CLIPS_CONFIG).map_err(|error| LoadError::malformed("CLIP", error))?;
    tokenizer["model_max_length"] = model.clip.max_position_embeddings.into();
    for (path, json) in [
        ("model_index.json", config::pipeline_json(model.unet.inpainting())),
        ("scheduler/scheduler_config.json", config::schedule_json(&model.source.schedule())),
        ("text_encoder/config.json", model.clip.to_json()),
        ("unet/config.json", model.unet.to_json()),
        ("vae/config.json", model.vae.to_json()),
        ("tokenizer/tokenizer_config.json", tokenizer),
    ] {
        to.write(path, &pretty(&json))?;
    }
    for (name, bytes) in CLIPS_FILES {
        to.write(&format!("tokenizer/{name}"), bytes)?;
    }
    Ok(())
}

/// JSON as diffusers indents it.
fn pretty(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}
