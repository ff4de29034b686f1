//! Seeded weights: a whole model's numbers without its files, of any size and the same on every machine.
//!
//! `tests/golden/seeded.py` has the same arithmetic, so that PyTorch runs the same model and a golden file needs to hold only
//! its outputs. Element `i` of a tensor is a uniform number in −1..1 made of 24 bits of splitmix64 (Steele 2014, "Fast
//! splittable pseudorandom number generators"), whose key is the FNV-1a hash of `part/tensor name`, xor the seed.

mod layout;

use anyhow::Context as _;
use darkroom_models::config::{ClipConfig, UNetConfig, VaeConfig};

pub use layout::{Layout, text_encoder_layout, unet_layout, vae_layout};

/// A network of the model, which is also its folder in a diffusers layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// CLIP's text tower.
    TextEncoder,
    /// The UNet.
    Unet,
    /// The autoencoder.
    Vae,
}

impl Part {
    /// `text_encoder`, `unet` or `vae`.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Unet => "unet",
            Self::Vae => "vae",
        }
    }
}

/// The configurations of a model: read, and as the JSON that a folder holds.
pub struct Configs {
    /// The text encoder's.
    pub text_encoder: ClipConfig,
    /// The UNet's.
    pub unet: UNetConfig,
    /// The autoencoder's.
    pub vae: VaeConfig,
    /// `config.json` of the text encoder, the UNet and the autoencoder, and `scheduler_config.json`.
    pub json: ConfigFiles,
}

/// The configurations as files.
#[derive(Clone, Copy)]
pub struct ConfigFiles {
    /// `text_encoder/config.json`.
    pub text_encoder: &'static str,
    /// `unet/config.json`.
    pub unet: &'static str,
    /// `vae/config.json`.
    pub vae: &'static str,
    /// `scheduler/scheduler_config.json`.
    pub scheduler: &'static str,
}

macro_rules! config_files {
    ($name:literal) => {
        ConfigFiles {
            text_encoder: include_str!(concat!("../golden/models/", $name, "/text_encoder.json")),
            unet: include_str!(concat!("../golden/models/", $name, "/unet.json")),
            vae: include_str!(concat!("../golden/models/", $name, "/vae.json")),
            scheduler: include_str!(concat!("../golden/models/", $name, "/scheduler.json")),
        }
    };
}

impl Configs {
    /// A model of a few million parameters that has every kind of block, with heads and groups as a single file implies them:
    /// 8 heads in the UNet, width / 64 in CLIP, 32 groups.
    ///
    /// # Errors
    /// When the models crate refuses its configuration.
    pub fn tiny() -> anyhow::Result<Self> {
        Self::read(config_files!("tiny"))
    }

    /// Stable Diffusion v1: a thousand million parameters, 4 GB in f32.
    ///
    /// # Errors
    /// When the models crate refuses its configuration.
    pub fn v1() -> anyhow::Result<Self> {
        Self::read(config_files!("v1"))
    }

    fn read(json: ConfigFiles) -> anyhow::Result<Self> {
        Ok(Self {
            text_encoder: ClipConfig::from_json("text_encoder.json", json.text_encoder.as_bytes())
                .context("text encoder")?,
            unet: UNetConfig::from_json("unet.json", json.unet.as_bytes()).context("unet")?,
            vae: VaeConfig::from_json("vae.json", json.vae.as_bytes()).context("vae")?,
            json,
        })
    }

    /// All tensors' names and shapes.
    #[must_use]
    pub fn layouts(&self) -> [(Part, Layout); 3] {
        [
            (Part::TextEncoder, text_encoder_layout(&self.text_encoder)),
            (Part::Unet, unet_layout(&self.unet)),
            (Part::Vae, vae_layout(&self.vae)),
        ]
    }
}

/// One tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct SeededTensor {
    /// The network it belongs to.
    pub part: Part,
    /// Its name as diffusers has it today; the text encoder's have no `text_model.` prefix.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub data: Vec<f32>,
}

/// All tensors of a model.
#[must_use]
pub fn model(configs: &Configs, seed: u64) -> Vec<SeededTensor> {
    let tensors =
        configs.layouts().into_iter().flat_map(|(part, layout)| layout.into_iter().map(move |entry| (part, entry)));
    tensors
        .map(|(part, (name, shape))| SeededTensor { part, data: tensor(part, &name, &shape, seed), name, shape })
        .collect()
}

/// The elements of one tensor.
#[must_use]
pub fn tensor(part: Part, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    values(part.folder(), name, shape, seed)
}

/// The elements of one tensor of a part that is none of a model's own.
#[must_use]
pub fn values(part: &str, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let (centre, spread) = centre_and_spread(name, shape);
    /// Of the 24 bits, in half units: their 2²⁴ values span two.
    const UNIT: f32 = 1.0 / (1 << 23) as f32;
    let key = fnv1a(format!("{part}/{name}").as_bytes()) ^ seed;
    let element = |index: u64| {
        let bits = splitmix64(key, index) >> 40;
        centre + (bits as f32 * UNIT - 1.0) * spread
    };
    (0..shape.iter().product::<usize>() as u64).map(element).collect()
}

/// Norms are near one, biases small; a weight's variance is 1 / fan-in, so that activations keep their size.
fn centre_and_spread(name: &str, shape: &[usize]) -> (f32, f32) {
    if name.ends_with(".bias") {
        (0.0, 0.05)
    } else if shape.len() == 1 {
        (1.0, 0.1)
    } else if name.starts_with("embeddings.") {
        (0.0, 0.5)
    } else {
        let fan_in: usize = shape[1..].iter().product();
        (0.0, (3.0 / fan_in as f64).sqrt() as f32)
    }
}

/// The 64-bit hash of Fowler, Noll and Vo, as FNV-1a has it.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The `index`-th output of the generator that starts at `key`.
fn splitmix64(key: u64, index: u64) -> u64 {
    let z = key.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_has_the_parameters_of_v1() -> anyhow::Result<()> {
        let count = |layout: &Layout| layout.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
        let counts: Vec<usize> = Configs::v1()?.layouts().iter().map(|(_, layout)| count(layout)).collect();
        assert_eq!(counts, [123_060_480, 859_520_964, 83_653_863]);
        Ok(())
    }

    /// Printed by `tests/golden/seeded.py`: `tensor("unet", "conv_in.weight", (2, 2, 1, 1), 7)`.
    #[test]
    fn numbers_are_those_of_the_script() {
        let weight = tensor(Part::Unet, "conv_in.weight", &[2, 2, 1, 1], 7);
        assert_eq!(weight, CONV_IN);
        let norm = tensor(Part::TextEncoder, "final_layer_norm.weight", &[3], 7);
        assert_eq!(norm, FINAL_NORM);
    }

    const CONV_IN: [f32; 4] = [-0.570_099_95, -0.200_167_63, 1.203_357_8, -0.622_143_27];
    const FINAL_NORM: [f32; 3] = [0.968_002_74, 1.025_226_2, 0.943_738_8];
}
