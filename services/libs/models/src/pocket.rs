//! The pocket model, carried within the program, so that a binary alone makes pictures wherever it is copied.

use crate::source::Files;

/// The name by which the embedded model is asked for.
pub(crate) const NAME: &str = "pocket";

macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../../deploy/models/pocket/", $path)))),*]
    };
}

/// A diffusers folder like any other: see `deploy/models/pocket/README.md`.
static FILES: &[(&str, &[u8])] = embed![
    "model_index.json",
    "defaults.json",
    "latent_rgb.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

pub(crate) fn files() -> Files {
    Files::Embedded(NAME, FILES)
}
