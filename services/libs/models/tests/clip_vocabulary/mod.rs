//! CLIP's vocabulary, as a model folder has it.

use std::fs;

use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::tokenizer::Tokenizer;
use serde_json::json;

use crate::pocket_copy::{pocket_copy, repository, set};

/// In the pocket model's folder, with a text encoder that has as many tokens.
pub(crate) fn clip() -> Tokenizer {
    let folder = pocket_copy();
    let assets = repository().join("services/libs/models/assets/clip-tokenizer");
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::copy(assets.join(file), folder.path().join("tokenizer").join(file)).unwrap();
    }
    set(&folder.path().join("text_encoder/config.json"), "vocab_size", json!(49_408));
    ModelSource::resolve(folder.path().to_str(), SourceOptions::default()).unwrap().tokenizer().unwrap()
}
