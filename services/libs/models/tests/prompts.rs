//! Prompts and textual inversions against the references: `tests/golden/prompts`, by `tests/golden/make_prompts.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

mod clip_vocabulary;
mod pocket_copy;

use std::fs;
use std::path::PathBuf;

use clip_vocabulary::clip;
use darkroom_models::inversion::Inversions;
use darkroom_models::lora::Loras;
use darkroom_models::prompt::{Prompt, PromptError};
use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::stage::{ComputeOptions, Precision, load_text_encoder_with};
use darkroom_models::tokenizer::Tokenizer;
use pocket_copy::repository;
use safetensors::SafeTensors;
use serde::Deserialize;

const MOST_WINDOWS: usize = 13;

fn golden(file: &str) -> PathBuf {
    repository().join("tests/golden/prompts").join(file)
}

fn pocket() -> ModelSource {
    ModelSource::resolve(None, SourceOptions::default()).unwrap()
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    /// `None`: a weight that is no number.
    windows: Option<Vec<Expected>>,
}

#[derive(Deserialize)]
struct Expected {
    /// Without start token, end token and padding.
    ids: Vec<u32>,
    weights: Option<Vec<f64>>,
}

fn check_windows(name: &str, tokenizer: &Tokenizer, [bos, eos]: [u32; 2]) {
    let golden: serde_json::Value = serde_json::from_slice(&fs::read(golden("windows.json")).unwrap()).unwrap();
    let cases: Vec<Case> = serde_json::from_value(golden[name].clone()).unwrap();
    assert!(cases.len() > 100);
    let (mut refused, mut long) = (0, 0);
    for Case { prompt, windows } in cases {
        let found = Prompt::weighted(tokenizer, &prompt, MOST_WINDOWS);
        let Some(windows) = windows else {
            assert!(matches!(found, Err(PromptError::Weight(_))), "{prompt:?}: {found:?}");
            refused += 1;
            continue;
        };
        let found = found.unwrap_or_else(|error| panic!("{prompt:?}: {error}"));
        assert_eq!(found.windows.len(), windows.len(), "{prompt:?}");
        long += usize::from(windows.len() > 1);
        for (found, Expected { ids, weights }) in found.windows.iter().zip(windows) {
            let mut expected = vec![eos; 77];
            expected[0] = bos;
            expected[1..=ids.len()].copy_from_slice(&ids);
            assert_eq!(found.ids, expected, "{prompt:?}");
            let mut expected = vec![1.0; 77];
            for (to, weight) in expected[1..].iter_mut().zip(weights.unwrap_or_default()) {
                *to = weight as f32;
            }
            assert_eq!(found.weights.clone().unwrap_or(vec![1.0; 77]), expected, "{prompt:?}");
        }
    }
    println!("{name}: {long} prompts of several windows, {refused} refused");
    assert!(long > 5);
}

#[test]
fn windows_and_weights_are_the_web_uis_with_clips_vocabulary() {
    check_windows("clip", &clip(), [49_406, 49_407]);
}

#[test]
fn windows_and_weights_are_the_web_uis_with_the_pocket_models() {
    check_windows("pocket", &pocket().tokenizer().unwrap(), [745, 746]);
}

/// The pocket model's text encoder in f32, with the golden words.
struct Tower {
    tokenizer: Tokenizer,
    model: Box<dyn darkroom_models::stage::TextEncoderModel>,
}

impl Tower {
    fn with(inversions: &Inversions) -> Self {
        let (source, options) = (pocket(), ComputeOptions { precision: Precision::F32, ..Default::default() });
        let vocabulary = source.text_encoder_config().unwrap().vocab_size;
        Self {
            tokenizer: source.tokenizer().unwrap().with_inversions(inversions, vocabulary).unwrap(),
            model: load_text_encoder_with(&source, &options, inversions, &Loras::default()).unwrap(),
        }
    }

    fn embed(&mut self, prompt: &Prompt, clip_skip: usize) -> Vec<f32> {
        let ids: Vec<_> = prompt.windows.iter().map(|window| window.ids.clone()).collect();
        let mut embeds = self.model.encode(&ids, clip_skip).unwrap();
        embeds.iter_mut().zip(&prompt.windows).for_each(|(embeds, window)| window.weigh(embeds));
        embeds.concat()
    }
}

fn check_embeds(name: &str, found: &[f32], bound: f64) {
    let bytes = fs::read(golden("embeds.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let expected: Vec<f32> =
        tensors.tensor(name).unwrap().data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let error = square(&mut found.iter().zip(&expected).map(|(found, expected)| found - expected));
    let relative = (error / square(&mut expected.iter().copied())).sqrt();
    println!("{name}: relative L2 {relative:.1e}");
    assert!(relative < bound, "{name}: {relative}");
}

fn words() -> Inversions {
    Inversions::from_folder(&golden("words"), &pocket().text_encoder_config().unwrap()).unwrap()
}

#[test]
fn weighted_embeddings_are_the_web_uis() {
    #[derive(Deserialize)]
    struct Asked {
        prompt: String,
        clip_skip: usize,
    }
    let asked: Vec<Asked> = serde_json::from_slice(&fs::read(golden("embeds.json")).unwrap()).unwrap();
    let mut tower = Tower::with(&Inversions::default());
    for (index, Asked { prompt, clip_skip }) in asked.iter().enumerate() {
        let prompt = Prompt::weighted(&tower.tokenizer, prompt, MOST_WINDOWS).unwrap();
        let found = tower.embed(&prompt, *clip_skip);
        // The ratio of two means brings back the first one; where they are small beside the values, it magnifies both sides' rounding.
        check_embeds(&format!("weighted.{index}"), &found, 1e-4);
    }
}

#[test]
fn inversions_of_every_layout_are_diffusers() {
    let words = words();
    let found: Vec<&str> = words.words().collect();
    assert_eq!(found, ["Flat Style", "glow", "<cat-toy>", "learned_embeds"]);
    let mut tower = Tower::with(&words);
    // A file's name is found by its tokens, so its brackets are diffusers' alone.
    for (name, text) in [
        ("glow", "a glow circle"),
        ("glow", "a GLOW circle"),
        ("toy", "two <cat-toy>, and <cat-toy>s on a blue background"),
    ] {
        let prompt = Prompt::plain(&tower.tokenizer, text);
        let found = tower.embed(&prompt, 0);
        check_embeds(&format!("inversion.{name}"), &found, 1e-5);
    }
    let plain = Prompt::plain(&tower.tokenizer, "in flat style");
    assert_eq!(plain.token_count, 3, "in, and two vectors");
}

#[test]
fn an_inversions_vectors_stay_together_in_a_window() {
    let tower = Tower::with(&words());
    let weighted = |text: &str| Prompt::weighted(&tower.tokenizer, text, MOST_WINDOWS).unwrap();
    // 73 places taken: three vectors do not fit into the two that are left.
    let prompt = weighted(&format!("{}(glow:1.2) end", "red ".repeat(73)));
    let vectors = |window: usize| prompt.windows[window].ids.iter().filter(|id| **id >= 747).count();
    assert_eq!((prompt.windows.len(), vectors(0), vectors(1)), (2, 0, 3));
    assert_eq!(prompt.windows[1].weights.as_ref().unwrap()[1..6], [1.2, 1.2, 1.2, 1.0, 1.0]);
    // Behind a near comma they are moved, and keep their meaning.
    let prompt = weighted(&format!("{}x, glow {}", "red ".repeat(60), "blue ".repeat(20)));
    assert_eq!(prompt.windows[1].ids.iter().filter(|id| **id >= 747).count(), 3);
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = pocket().text_encoder_config().unwrap();
    let write = |name: &str, tensor: &str, shape: &str, values: &[f32]| {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let header = format!(r#"{{"{tensor}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{}]}}}}"#, data.len());
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        fs::write(folder.path().join(name), file).unwrap();
    };
    let read = || Inversions::from_folder(folder.path(), &config);
    let refusal = || {
        let tokenizer = || pocket().tokenizer().unwrap();
        read().and_then(|read| tokenizer().with_inversions(&read, 747).map(drop)).unwrap_err().to_string()
    };
    fs::write(folder.path().join("notes.txt"), "not one").unwrap();
    assert!(read().unwrap().is_empty());

    write("a.safetensors", "emb_params", "[1,768]", &[0.0; 768]);
    assert!(
        refusal().ends_with(
            "the shape of emb_params is [1, 768]; expected [1 to 75, 96], vectors of this model's text encoder"
        ),
        "{}",
        refusal()
    );
    write("a.safetensors", "emb_params", "[76,96]", &[0.0; 76 * 96]);
    assert!(refusal().contains("is [76, 96]; expected [1 to 75, 96]"), "{}", refusal());
    write("a.safetensors", "clip_g", "[96]", &[0.0; 96]);
    assert!(refusal().contains("a textual inversion of another family (it has clip_g)"), "{}", refusal());
    write("a.safetensors", "emb_params", "[96]", &[f32::INFINITY; 96]);
    assert!(refusal().contains("tensor emb_params has the value inf"), "{}", refusal());
    write("a.safetensors", "red</w>", "[96]", &[0.0; 96]);
    assert!(refusal().contains("its word \"red</w>\" is in the vocabulary already"), "{}", refusal());
    write("a.safetensors", "emb_params", "[96]", &[0.0; 96]);
    write("A.safetensors", "emb_params", "[96]", &[0.0; 96]);
    assert!(refusal().contains("its name \"a\" is that of another one, to a prompt"), "{}", refusal());
    fs::write(folder.path().join("A.safetensors"), "cut").unwrap();
    assert!(refusal().contains("A.safetensors is malformed"), "{}", refusal());
}

#[test]
fn what_is_left_out_is_told_without_its_brackets() {
    let tokenizer = pocket().tokenizer().unwrap();
    let prompt =
        Prompt::weighted(&tokenizer, &format!("{}(blue:1.2) [circle] BREAK x", "red ".repeat(150)), 2).unwrap();
    assert_eq!((prompt.windows.len(), prompt.token_count), (2, 153));
    assert_eq!((prompt.dropped_tokens, prompt.dropped_text.as_str()), (3, "blue circle x"));
}
