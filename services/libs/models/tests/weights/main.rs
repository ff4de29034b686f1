//! Reading models: what torch, Lightning, transformers and diffusers write, and what nobody should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

mod builder;
mod checkpoints;
mod families;
mod folders;
mod hostile_pickles;
mod mutations;
#[path = "../pocket_copy/mod.rs"]
mod pocket_copy;
mod safetensors_files;

use std::fs;
use std::path::Path;

use darkroom_models::LoadError;
use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::weights::Weights;
use pocket_copy::{pocket_copy, repository, set};

/// The text encoder of a single file with these bytes and this name.
fn text_encoder(name: &str, bytes: &[u8]) -> Result<Weights, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    resolve(&path)?.text_encoder().map(|(_, weights)| weights)
}

/// Why a single file with these bytes is refused. Every message names the file.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let error = text_encoder(name, bytes).err().expect("the file is refused").to_string();
    assert!(error.contains(name), "{error}");
    error
}

fn resolve(path: &Path) -> Result<ModelSource, LoadError> {
    ModelSource::resolve(path.to_str(), SourceOptions::default())
}
