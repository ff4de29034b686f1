//! The configuration of a safety checker: diffusers' `StableDiffusionSafetyChecker`, which is CLIP's vision tower and a projection.

use serde::Serialize;

use super::Fields;
use super::unet::CHANNELS;
use crate::error::LoadError;

/// What a CLIP vision tower is built from, and how wide the space is that it is projected to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VisionConfig {
    /// Width of the tokens; 1024 in the checker of v1.
    pub hidden_size: usize,
    /// Width within a feed-forward; 4096.
    pub intermediate_size: usize,
    /// Transformer layers; 24.
    pub num_hidden_layers: usize,
    /// Attention heads; 16.
    pub num_attention_heads: usize,
    /// Pixels along a side of the square picture that it sees; 224.
    pub image_size: usize,
    /// Pixels along a side of what becomes one token; 14.
    pub patch_size: usize,
    /// Epsilon of the layer normalisations; 1e-5.
    pub layer_norm_eps: f64,
    /// Width of an embedding; 768.
    pub projection_dim: usize,
}

impl VisionConfig {
    /// Reads and checks `safety_checker/config.json`: a whole CLIP's configuration, of which `vision_config` counts. What it leaves out is
    /// transformers' default, which is CLIP's smaller tower.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for what CLIP does not have, [`LoadError::Config`] for a value out of range.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let outer = Fields::parse(file, bytes)?;
        if outer.text("model_type")?.is_some_and(|model| model != "clip") {
            return Err(outer.unsupported("model_type", "another safety checker than CLIP's"));
        }
        let fields = outer.nested("vision_config");
        let fields = fields.ok_or_else(|| outer.wrong("vision_config", "the vision tower's configuration"))?;
        fields.only("hidden_act", "quick_gelu", "another vision tower")?;
        let config = Self {
            hidden_size: fields.count("hidden_size", Some(768), CHANNELS)?,
            intermediate_size: fields.count("intermediate_size", Some(3072), 1..=32_768)?,
            num_hidden_layers: fields.count("num_hidden_layers", Some(12), 1..=64)?,
            num_attention_heads: fields.count("num_attention_heads", Some(12), 1..=256)?,
            image_size: fields.count("image_size", Some(224), 8..=1024)?,
            patch_size: fields.count("patch_size", Some(32), 4..=256)?,
            layer_norm_eps: fields.number("layer_norm_eps", 1e-5, 1e-12..=1.0)?,
            projection_dim: outer.count("projection_dim", Some(512), CHANNELS)?,
        };
        fields.count("num_channels", Some(3), 3..=3)?;
        config.check(file)?;
        Ok(config)
    }

    /// Patches along a side of the picture.
    #[must_use]
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens of a picture: one for all of it, then one for each patch; 257.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.side() * self.side() + 1
    }

    /// Checks what no field shows alone.
    fn check(&self, file: &str) -> Result<(), LoadError> {
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of the {} attention heads", self.num_attention_heads);
            return Err(LoadError::config(file, "hidden_size", self.hidden_size, expected));
        }
        if self.patch_size > self.image_size {
            let expected = format!("at most the image_size of {}", self.image_size);
            return Err(LoadError::config(file, "patch_size", self.patch_size, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checker_of_v1_is_read_and_others_are_refused_by_field() {
        let json = br#"{"model_type": "clip", "projection_dim": 768, "text_config": {"hidden_size": 1}, "vision_config":
            {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}}"#;
        let config = VisionConfig::from_json("c", json).unwrap();
        assert_eq!((config.tokens(), config.projection_dim, config.image_size), (257, 768, 224));
        for (json, field) in [
            (r#"{"model_type": "siglip"}"#, "model_type"),
            (r#"{"projection_dim": 768}"#, "vision_config"),
            (r#"{"vision_config": {"patch_size": 2}}"#, "patch_size"),
            (r#"{"vision_config": {"num_attention_heads": 7}}"#, "hidden_size"),
            (r#"{"vision_config": {"patch_size": 250}}"#, "patch_size"),
            (r#"{"vision_config": {"hidden_act": "gelu"}}"#, "hidden_act"),
            (r#"{"vision_config": {}, "projection_dim": 0}"#, "projection_dim"),
        ] {
            let error = VisionConfig::from_json("c", json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{json}: {error}");
        }
    }
}
