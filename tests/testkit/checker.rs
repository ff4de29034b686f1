//! A safety checker of a few hundred thousand parameters on disk, seeded, under the names that CompVis' has.

use std::path::Path;

use anyhow::Context as _;
use darkroom_models::config::VisionConfig;

use crate::formats::{Precision, save_tensors};
use crate::seeded;

/// The part of the seeded names.
const PART: &str = "safety_checker";
/// The seed of the weights in `tests/golden/make_safety.py`.
const SEED: u64 = 20_261_127;
/// Concepts that flag a picture, and those that make the checker stricter.
const CONCEPTS: [(&str, usize); 2] = [("concept_embeds", 17), ("special_care_embeds", 3)];
/// No cosine is above it.
const NEVER: f32 = 1.5;

/// The tiny safety checker.
pub struct Checker {
    /// Its configuration.
    pub config: VisionConfig,
    /// How near a picture may come to each of the 17 concepts, and of the 3 special ones.
    pub thresholds: [Vec<f32>; 2],
}

/// `config.json` of the tiny safety checker.
pub const CONFIG: &str = include_str!("../golden/safety/tiny.json");

impl Checker {
    /// One that lets every picture pass.
    ///
    /// # Errors
    /// When the models crate refuses its configuration.
    pub fn tiny() -> anyhow::Result<Self> {
        let config = VisionConfig::from_json("tiny.json", CONFIG.as_bytes()).context("safety checker")?;
        Ok(Self { config, thresholds: CONCEPTS.map(|(_, count)| vec![NEVER; count]) })
    }

    /// One that lets no picture pass.
    ///
    /// # Errors
    /// As [`Checker::tiny`].
    pub fn that_flags_all() -> anyhow::Result<Self> {
        let mut checker = Self::tiny()?;
        checker.thresholds[0][7] = -NEVER;
        Ok(checker)
    }

    /// The embeddings of the 17 concepts or of the 3 special ones, row by row.
    #[must_use]
    pub fn embeddings(&self, special: bool) -> Vec<Vec<f32>> {
        let (name, count) = CONCEPTS[usize::from(special)];
        let width = self.config.projection_dim;
        let values = seeded::values(PART, name, &[count, width], SEED);
        values.chunks_exact(width).map(<[f32]>::to_vec).collect()
    }

    /// Writes `config.json` and the weights: as `model.safetensors`, or as the `pytorch_model.bin` of old.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, to: &Path, as_pickle: bool) -> anyhow::Result<()> {
        std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        std::fs::write(to.join("config.json"), CONFIG)?;
        let name = if as_pickle { "pytorch_model.bin" } else { "model.safetensors" };
        save_tensors(&self.tensors(), Precision::F32, as_pickle, &to.join(name))
    }

    /// Names as in the file, shapes, elements.
    fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let VisionConfig { hidden_size: width, intermediate_size: inner, patch_size: patch, projection_dim, .. } =
            self.config;
        let mut tower = vec![
            ("embeddings.class_embedding".to_owned(), vec![width]),
            ("embeddings.patch_embedding.weight".to_owned(), vec![width, 3, patch, patch]),
            ("embeddings.position_embedding.weight".to_owned(), vec![self.config.tokens(), width]),
        ];
        let mut layer = |name: String, inputs: Option<usize>, outputs: usize| {
            tower.push((format!("{name}.weight"), inputs.map_or(vec![outputs], |inputs| vec![outputs, inputs])));
            tower.push((format!("{name}.bias"), vec![outputs]));
        };
        layer("pre_layrnorm".into(), None, width);
        layer("post_layernorm".into(), None, width);
        for index in 0..self.config.num_hidden_layers {
            let at = |name: &str| format!("encoder.layers.{index}.{name}");
            layer(at("layer_norm1"), None, width);
            layer(at("layer_norm2"), None, width);
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                layer(at(&format!("self_attn.{projection}")), Some(width), width);
            }
            layer(at("mlp.fc1"), Some(width), inner);
            layer(at("mlp.fc2"), Some(inner), width);
        }
        let seeded = |prefix: &str, (name, shape): (String, Vec<usize>)| {
            (format!("{prefix}{name}"), shape.clone(), seeded::values(PART, &name, &shape, SEED))
        };
        let mut all: Vec<_> = tower.into_iter().map(|tensor| seeded("vision_model.vision_model.", tensor)).collect();
        all.push(seeded("", ("visual_projection.weight".into(), vec![projection_dim, width])));
        for ((name, count), thresholds) in CONCEPTS.into_iter().zip(&self.thresholds) {
            all.push(seeded("", (name.into(), vec![count, projection_dim])));
            all.push((format!("{name}_weights"), vec![count], thresholds.clone()));
        }
        all
    }
}
