//! Checkpoints that are sound: torch's own, with everything that Lightning leaves in them.

use std::fs;

use serde_json::Value;
use zip::CompressionMethod;

use super::builder::{self, FC1, POSITIONS, Pickle, TOKENS, Tensor, tower};
use super::{refusal, repository, resolve, text_encoder};

/// `tests/golden/weights/lightning.*`, by `tests/golden/make_weights.py`.
#[test]
fn a_lightning_checkpoint_reads_as_torch_reads_it() {
    let golden = repository().join("tests/golden/weights");
    let (config, weights) = resolve(&golden.join("lightning.ckpt")).unwrap().text_encoder().unwrap();
    assert_eq!((config.vocab_size, config.max_position_embeddings, config.num_attention_heads), (9, 7, 1));
    let expected: Value = serde_json::from_slice(&fs::read(golden.join("lightning.json")).unwrap()).unwrap();
    for (name, tensor) in expected.as_object().unwrap() {
        let shape: Vec<usize> =
            tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let values: Vec<f32> =
            tensor["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        let name = name.strip_prefix("cond_stage_model.transformer.text_model.").unwrap();
        assert_eq!(weights.tensor(name, &shape).unwrap().to_f32(), values, "{name}");
    }
    // The integers that count positions are known and left out; the rest is all there is.
    assert_eq!(weights.shapes().count(), expected.as_object().unwrap().len());
}

#[test]
fn the_state_may_be_the_top_level_itself() {
    let start = Pickle::new().raw(b"}(");
    let pickle = tower().iter().fold(start, |pickle, (name, tensor)| pickle.text(name).tensor(tensor)).raw(b"u.");
    let weights = text_encoder("model.ckpt", &builder::archive(&pickle)).unwrap();
    assert!(weights.contains("embeddings.token_embedding.weight"));
}

#[test]
fn compressed_entries_are_inflated() {
    let pickle = Pickle::new().checkpoint(&tower());
    let storages = [("0", 768), ("1", 768), ("2", 512)];
    let deflated = builder::archive_with(&pickle, CompressionMethod::Deflated, &storages);
    let plain = text_encoder("model.ckpt", &builder::checkpoint()).unwrap();
    assert_eq!(text_encoder("model.ckpt", &deflated).unwrap().revision(), plain.revision());
}

#[test]
fn an_archive_that_inflates_without_bound_is_refused() {
    let bomb = Tensor { count: 25 << 20, ..Tensor::rows("0", 3) };
    let pickle = Pickle::new().checkpoint(&[(TOKENS, bomb)]);
    let bytes = builder::archive_with(&pickle, CompressionMethod::Deflated, &[("0", 100 << 20)]);
    assert!(bytes.len() < 1 << 20);
    let message = refusal("bomb.ckpt", &bytes);
    assert!(message.contains("entry archive/data/0: it inflates to more than weights would"), "{message}");
}

#[test]
fn storages_of_unknown_types_are_left_alone() {
    let odd = Tensor { class: "QUInt4x2Storage", ..Tensor::rows("0", 3) };
    let mut tensors = tower();
    tensors.push(("cond_stage_model.transformer.text_model.odd", odd));
    let weights = text_encoder("model.ckpt", &builder::archive(&Pickle::new().checkpoint(&tensors))).unwrap();
    assert!(!weights.contains("odd"));
}

#[test]
fn a_missing_tensor_is_named_with_its_file_and_shape() {
    let weights = text_encoder("model.ckpt", &builder::checkpoint()).unwrap();
    let message = weights.tensor("final_layer_norm.weight", &[64]).unwrap_err().to_string();
    assert!(message.starts_with("tensor final_layer_norm.weight is missing from "), "{message}");
    assert!(message.ends_with("model.ckpt; its shape would be [64]"), "{message}");
}

#[test]
fn a_wrong_shape_is_named_with_both() {
    let weights = text_encoder("model.ckpt", &builder::checkpoint()).unwrap();
    let message = weights.tensor("embeddings.token_embedding.weight", &[49_408, 64]).unwrap_err().to_string();
    assert!(message.ends_with("model.ckpt has shape [3, 64]; its configuration expects [49408, 64]"), "{message}");
}

#[test]
fn integers_are_no_weights() {
    let mut tensors = tower();
    tensors[2] = (FC1, Tensor { class: "IntStorage", ..Tensor::rows("2", 2) });
    let weights = text_encoder("model.ckpt", &builder::archive(&Pickle::new().checkpoint(&tensors))).unwrap();
    let message = weights.tensor("encoder.layers.0.mlp.fc1.weight", &[2, 64]).unwrap_err().to_string();
    assert!(message.contains("has elements of type i32; expected f32, f16, bf16 or f64"), "{message}");
}

#[test]
fn the_revision_follows_every_change() {
    let original = text_encoder("model.ckpt", &builder::checkpoint()).unwrap().revision();
    assert_eq!(original.len(), 64);
    let mut bytes = builder::checkpoint();
    // The storages hold zeros: the first run of them is the token embedding's.
    let at = bytes.windows(256).position(|window| window.iter().all(|byte| *byte == 0)).unwrap();
    bytes[at] = 1;
    assert_ne!(text_encoder("model.ckpt", &bytes).unwrap().revision(), original);
    let swapped = [(POSITIONS, Tensor::rows("0", 3)), (TOKENS, Tensor::rows("1", 3)), (FC1, Tensor::rows("2", 2))];
    let same = text_encoder("model.ckpt", &builder::archive(&Pickle::new().checkpoint(&swapped))).unwrap();
    assert_eq!(same.revision(), original, "equal bytes under equal names, in another order");
}
