//! The tokenizer against transformers' `CLIPTokenizer`, and what it says of prompts that are too long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

mod clip_vocabulary;
mod pocket_copy;

use std::fs;
use std::path::Path;

use clip_vocabulary::clip;
use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::tokenizer::Tokenizer;
use pocket_copy::{pocket_copy, repository, set};
use serde_json::{Value, json};

fn tokenizer_of(folder: &Path) -> Result<Tokenizer, darkroom_models::LoadError> {
    ModelSource::resolve(folder.to_str(), SourceOptions::default())?.tokenizer()
}

fn pocket() -> Tokenizer {
    ModelSource::resolve(None, SourceOptions::default()).unwrap().tokenizer().unwrap()
}

/// `tests/golden/weights/tokenizer.json`, by `tests/golden/make_weights.py`.
fn check_golden(name: &str, tokenizer: &Tokenizer, bos: u64, eos: u64) {
    let golden = fs::read(repository().join("tests/golden/weights/tokenizer.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    for entry in golden[name].as_array().unwrap() {
        let prompt = entry["prompt"].as_str().unwrap();
        let tokens: Vec<u64> = entry["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let found = tokenizer.encode(prompt);
        let mut expected = vec![bos];
        expected.extend(tokens.iter().take(75));
        // Both models pad with their end token.
        expected.resize(77, eos);
        expected[76] = eos;
        let ids: Vec<u64> = found.ids.iter().map(|id| u64::from(*id)).collect();
        assert_eq!(ids, expected, "{prompt:?}");
        assert_eq!(found.token_count, tokens.len(), "{prompt:?}");
        assert_eq!(found.dropped_text.is_empty(), tokens.len() <= 75, "{prompt:?}");
    }
}

#[test]
fn clip_tokens_are_those_of_transformers() {
    check_golden("clip", &clip(), 49_406, 49_407);
}

#[test]
fn pocket_tokens_are_those_of_transformers() {
    check_golden("pocket", &pocket(), 745, 746);
}

#[test]
fn what_does_not_fit_is_said_word_by_word() {
    let kept = "red ".repeat(75);
    let found = pocket().encode(&format!("{kept} Blue  circle, "));
    assert_eq!(found.token_count, 78);
    assert_eq!(found.dropped_text, "Blue  circle,");
    assert_eq!(found.ids.len(), 77);
    assert_eq!(pocket().encode(kept.trim()).dropped_text, "");
}

#[test]
fn a_dropped_character_is_never_cut() {
    // Each of these characters takes several byte-level tokens, one of which is the first to find no place.
    let tokenizer = pocket();
    for lead in 0..4 {
        let prompt = format!("{}{}", "red ".repeat(lead), "🐱".repeat(60));
        let dropped = tokenizer.encode(&prompt).dropped_text;
        assert!(!dropped.is_empty() && dropped.chars().all(|character| character == '🐱'), "{dropped}");
    }
}

#[test]
fn a_long_prompt_is_no_burden() {
    let found = clip().encode(&"word, ".repeat(50_000));
    assert_eq!(found.token_count, 100_000);
    let found = clip().encode(&"w".repeat(100_000));
    assert!(found.token_count > 1000 && found.ids.len() == 77);
}

#[test]
fn tokenizer_json_does_where_the_older_files_are_absent() {
    let folder = pocket_copy();
    let of = |name: &str| folder.path().join("tokenizer").join(name);
    let vocabulary: Value = serde_json::from_slice(&fs::read(of("vocab.json")).unwrap()).unwrap();
    let merges = fs::read_to_string(of("merges.txt")).unwrap();
    let pairs: Vec<Value> = merges.lines().skip(1).map(|line| json!(line.split(' ').collect::<Vec<_>>())).collect();
    fs::write(of("tokenizer.json"), json!({"model": {"vocab": vocabulary, "merges": pairs}}).to_string()).unwrap();
    fs::remove_file(of("vocab.json")).unwrap();
    fs::remove_file(of("merges.txt")).unwrap();
    check_golden("pocket", &tokenizer_of(folder.path()).unwrap(), 745, 746);
}

#[test]
fn a_vocabulary_beyond_the_embedding_is_refused() {
    let folder = pocket_copy();
    set(&folder.path().join("tokenizer/vocab.json"), "zebra</w>", json!(747));
    let error = tokenizer_of(folder.path()).err().unwrap().to_string();
    assert!(error.ends_with(
        "vocab.json: the id of token \"zebra</w>\" is 747; expected below 747, the rows of the text encoder's token embedding"
    ));
}

#[test]
fn damaged_vocabularies_are_refused() {
    for (file, content, message) in [
        ("vocab.json", "{", "vocab.json is malformed: not JSON"),
        ("vocab.json", "{\"a\": -1}", "vocab.json is malformed: token \"a\" has no id"),
        ("vocab.json", "{\"a\": 0}", "vocab.json is malformed: it lacks the special token \"<|startoftext|>\""),
        ("merges.txt", "#version: 0.2\na\n", "merges.txt is malformed: merge 2 is not a pair of tokens"),
        ("merges.txt", "zz yy\n", "vocab.json is malformed: Token `zz` out of vocabulary"),
    ] {
        let folder = pocket_copy();
        fs::write(folder.path().join("tokenizer").join(file), content).unwrap();
        let error = tokenizer_of(folder.path()).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
    let folder = pocket_copy();
    fs::remove_dir_all(folder.path().join("tokenizer")).unwrap();
    let error = tokenizer_of(folder.path()).err().unwrap().to_string();
    assert!(error.contains("holds no vocabulary: expected tokenizer/vocab.json and merges.txt"), "{error}");
}
