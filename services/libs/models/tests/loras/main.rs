//! LoRAs: what they make of the embedded model against diffusers and PEFT (`tests/golden/loras`, by `make_loras.py`), that rows of a batch keep their
//! bits, and what files are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

mod files;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};

use darkroom_models::inversion::Inversions;
use darkroom_models::lora::{LoraUse, Loras};
use darkroom_models::prompt::Prompt;
use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::stage::{
    ComputeOptions, Precision, TextEncoderModel, UnetModel, UnetRow, load_text_encoder_with, load_unet_with,
};
use safetensors::SafeTensors;

const TOKENS: usize = 77;
const SIDE: usize = 16;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/loras").join(file)
}

fn pocket() -> ModelSource {
    ModelSource::resolve(None, SourceOptions::default()).unwrap()
}

fn loras() -> Loras {
    Loras::from_folder(&golden("files"), &pocket()).unwrap()
}

fn options(precision: Precision) -> ComputeOptions {
    ComputeOptions { precision, ..Default::default() }
}

fn unet(precision: Precision, loras: &Loras) -> Box<dyn UnetModel> {
    load_unet_with(&pocket(), &options(precision), loras).unwrap()
}

fn text_encoder(loras: &Loras) -> Box<dyn TextEncoderModel> {
    load_text_encoder_with(&pocket(), &options(Precision::F32), &Inversions::default(), loras).unwrap()
}

fn uses(named: &[(&str, f64)]) -> Vec<LoraUse> {
    named.iter().map(|(name, weight)| LoraUse { name: (*name).into(), weight: *weight }).collect()
}

/// A tensor of the expected ones.
fn tensor(name: &str) -> Vec<f32> {
    let bytes = fs::read(golden("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
}

fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let error = square(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    (error / square(&mut expected.iter().copied())).sqrt()
}

fn embed(model: &mut dyn TextEncoderModel, text: &str, named: &[(&str, f64)]) -> Vec<f32> {
    let prompt = Prompt::plain(&pocket().tokenizer().unwrap(), text);
    let ids: Vec<_> = prompt.windows.iter().map(|window| window.ids.clone()).collect();
    model.encode_with(&ids, 0, &uses(named)).unwrap().concat()
}

/// What is predicted for the golden latents and embeddings.
fn predict(model: &mut dyn UnetModel, named: &[(&str, f64)]) -> Vec<f32> {
    let (latents, embeds) = (tensor("latents"), tensor("embeds"));
    let context = model.context_with(&embeds, TOKENS, &uses(named)).unwrap();
    model
        .predict(&[UnetRow { latents: &latents, timestep: 421.0, context: &context, guidance_scale: None }], SIDE, SIDE)
        .unwrap()
        .concat()
}

const FLAT: &[(&str, f64)] = &[("flat", 1.0)];
const EVERY: &[(&str, f64)] = &[("every layer", 1.0)];
const BOTH: &[(&str, f64)] = &[("flat", 0.5), ("every layer", -0.8)];

#[test]
fn embeddings_are_those_of_diffusers() {
    let mut model = text_encoder(&loras());
    let text = "a red circle on a white background";
    let plain = embed(model.as_mut(), text, &[]);
    for (name, named) in [("prompt_embeds.flat", FLAT), ("prompt_embeds.both", BOTH)] {
        let found = embed(model.as_mut(), text, named);
        let error = relative_l2(&found, &tensor(name));
        println!("{name}: relative L2 {error:.1e}, without LoRAs {:.1e}", relative_l2(&plain, &tensor(name)));
        assert!(error < 1e-5, "{name}: {error}");
    }
}

#[test]
fn predicted_noise_is_that_of_diffusers() {
    let mut model = unet(Precision::F32, &loras());
    let plain = predict(model.as_mut(), &[]);
    for (name, named) in [("noise_pred.flat", FLAT), ("noise_pred.every", EVERY), ("noise_pred.both", BOTH)] {
        let found = predict(model.as_mut(), named);
        let error = relative_l2(&found, &tensor(name));
        let without = relative_l2(&plain, &tensor(name));
        println!("{name}: relative L2 {error:.1e}, without LoRAs {without:.1e}");
        assert!(error < 1e-5, "{name}: {error}");
        assert!(without > 1e-2, "{name} changes next to nothing: {without}");
    }
}

/// The factors are rounded, and nothing else comes in.
#[test]
fn in_bf16_the_noise_is_nearly_the_same() {
    let mut model = unet(Precision::Bf16, &loras());
    for (name, named) in [("noise_pred.flat", FLAT), ("noise_pred.every", EVERY), ("noise_pred.both", BOTH)] {
        let error = relative_l2(&predict(model.as_mut(), named), &tensor(name));
        println!("{name}: relative L2 {error:.1e}");
        assert!(error < 0.03, "{name}: {error}");
    }
}

#[test]
fn layouts_of_one_lora_are_one_lora() {
    let loras = loras();
    let (mut unet, mut text) = (unet(Precision::F32, &loras), text_encoder(&loras));
    let expected = (predict(unet.as_mut(), FLAT), embed(text.as_mut(), "a green heart", FLAT));
    for name in ["flat peft", "flat before"] {
        let named = &[(name, 1.0)];
        assert!((predict(unet.as_mut(), named), embed(text.as_mut(), "a green heart", named)) == expected, "{name}");
    }
}

#[test]
fn names_and_files_are_a_part_of_the_revision() {
    let loras = loras();
    let names: Vec<&str> = loras.files().map(|(name, _)| name).collect();
    assert_eq!(names, ["every layer", "flat", "flat before", "flat peft"]);
    let revision = |loras: &Loras| unet(Precision::F32, loras).identity().revision.clone();
    let of_text = |loras: &Loras| text_encoder(loras).identity().revision.clone();
    assert_ne!(revision(&loras), revision(&Loras::default()));
    assert_ne!(of_text(&loras), of_text(&Loras::default()));
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("files/flat peft.safetensors"), folder.path().join("flat.safetensors")).unwrap();
    let renamed = Loras::from_folder(folder.path(), &pocket()).unwrap();
    fs::copy(golden("files/flat.safetensors"), folder.path().join("flat.safetensors")).unwrap();
    let other = Loras::from_folder(folder.path(), &pocket()).unwrap();
    assert_ne!(revision(&renamed), revision(&other));
    assert_eq!(revision(&other), revision(&Loras::from_folder(folder.path(), &pocket()).unwrap()));
}
