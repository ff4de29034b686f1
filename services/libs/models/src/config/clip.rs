//! The text tower's configuration: transformers' `CLIPTextModel`, alone or nested in a whole CLIP's `text_config`.

use serde::Serialize;

use super::Fields;
use super::unet::CHANNELS;
use crate::error::LoadError;

/// What a CLIP text tower is built from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClipConfig {
    /// Rows of the token embedding; 49,408 in v1.
    pub vocab_size: usize,
    /// Width of the embeddings; 768 in v1.
    pub hidden_size: usize,
    /// Width within a feed-forward; 3072 in v1.
    pub intermediate_size: usize,
    /// Transformer layers; 12 in v1.
    pub num_hidden_layers: usize,
    /// Attention heads; 12 in v1.
    pub num_attention_heads: usize,
    /// Tokens of a prompt, with its start and end; 77 in v1.
    pub max_position_embeddings: usize,
    /// Epsilon of the layer normalisations; 1e-5.
    pub layer_norm_eps: f64,
}

impl ClipConfig {
    /// Reads and checks `text_encoder/config.json`.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for what v1 does not have, [`LoadError::Config`] for a value out of range.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let outer = Fields::parse(file, bytes)?;
        refuse_other_families(&outer)?;
        let fields = outer.nested("text_config").unwrap_or(outer);
        fields.only("hidden_act", "quick_gelu", "another text encoder, such as that of Stable Diffusion 2")?;
        let config = Self {
            vocab_size: fields.count("vocab_size", Some(49_408), 3..=1_000_000)?,
            hidden_size: fields.count("hidden_size", Some(512), CHANNELS)?,
            intermediate_size: fields.count("intermediate_size", Some(2048), 1..=32_768)?,
            num_hidden_layers: fields.count("num_hidden_layers", Some(12), 1..=64)?,
            num_attention_heads: fields.count("num_attention_heads", Some(8), 1..=256)?,
            max_position_embeddings: fields.count("max_position_embeddings", Some(77), 3..=1024)?,
            layer_norm_eps: fields.number("layer_norm_eps", 1e-5, 1e-12..=1.0)?,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Checks what no field shows alone.
    pub(crate) fn check(&self, file: &str) -> Result<(), LoadError> {
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of the {} attention heads", self.num_attention_heads);
            return Err(LoadError::config(file, "hidden_size", self.hidden_size, expected));
        }
        Ok(())
    }
}

fn refuse_other_families(fields: &Fields<'_>) -> Result<(), LoadError> {
    match fields.text("model_type")? {
        None | Some("clip_text_model" | "clip") => Ok(()),
        Some(_) => Err(fields.unsupported("model_type", "another text encoder than CLIP")),
    }
}
