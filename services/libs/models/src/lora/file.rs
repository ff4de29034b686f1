//! One adapter's file, trusting none of it: every tensor must belong to a layer of the model and fit it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::keys::{Key, Layer, Role};
use super::{Layers, Lora, Network};
use crate::LoadError;
use crate::compute::Place;
use crate::weights::{Blob, Stored, WeightTensor, read_safetensors, safetensors_text};

/// Bytes of a file, at most: the largest rank for every layer of Stable Diffusion v1, in f32, is less.
const MAX_BYTES: usize = 8 << 30;
const MAX_RANK: usize = 1024;
const MAX_ALPHA: f32 = 65_536.0;
/// Where PEFT's configuration is in the header of a file that diffusers wrote (`loaders/lora_base.py`).
const PEFT_CONFIG: &str = "lora_adapter_metadata";

/// What an adapter adds to one layer.
pub(crate) struct Factors {
    /// `A`: `[rank, in]`, or `[rank, in, k, k]` of a convolution; trailing sides of 1 may be more or fewer than the layer's.
    pub(super) down: Stored,
    /// `B`: `[out, rank]`, as a matrix or a 1×1 convolution.
    pub(super) up: Stored,
    pub(super) rank: usize,
    /// alpha / rank.
    pub(super) scale: f32,
}

impl Factors {
    /// Of both, as f32.
    pub(super) fn bytes(&self) -> usize {
        let elements = |stored: &Stored| stored.shape().iter().product::<usize>();
        (elements(&self.down) + elements(&self.up)) * size_of::<f32>()
    }
}

/// A layer's tensors as far as they were found, each with its name.
#[derive(Default)]
struct Found {
    down: Option<(String, Stored)>,
    up: Option<(String, Stored)>,
    alpha: Option<(String, Stored)>,
}

impl Layers {
    /// Reads a file's bytes.
    pub(super) fn lora(&self, name: &str, blob: &Blob) -> Result<Lora, LoadError> {
        let file = blob.file();
        if blob.len() > MAX_BYTES {
            return Err(LoadError::unsupported(file, format!("{} bytes; a LoRA has at most {MAX_BYTES}", blob.len())));
        }
        let mut tensors = read_safetensors(blob)?;
        if tensors.is_empty() {
            return Err(LoadError::malformed(file, "it has no tensors"));
        }
        // So that of several mistakes the same one is told every time.
        tensors.sort_by(|(first, _), (second, _)| first.cmp(second));
        let scales = Scales::read(blob)?;
        let mut found: BTreeMap<(Network, usize), Found> = BTreeMap::new();
        let [unet, text_encoder] = [Network::Unet, Network::TextEncoder].map(|network| self.index(network));
        for (tensor, stored) in tensors {
            let key = Key::read(&tensor).map_err(|what| {
                LoadError::unsupported(
                    file,
                    format!("its tensor {tensor} makes it {what}; Darkroom adds LoRAs to layers"),
                )
            })?;
            let index = match key.network {
                Network::Unet => &unet,
                Network::TextEncoder => &text_encoder,
            };
            // Nothing is known of a network that is not there, and nothing of it is used.
            let Some(index) = index else { continue };
            let place = index.get(&key.layer).ok_or_else(|| {
                let network = if key.network == Network::Unet { "UNet" } else { "text encoder" };
                let what = format!("its tensor {tensor} is for a layer that this model's {network} does not have");
                LoadError::unsupported(file, what)
            })?;
            let found = found.entry((key.network, *place)).or_default();
            let slot = match key.role {
                Role::Down => &mut found.down,
                Role::Up => &mut found.up,
                Role::Alpha => &mut found.alpha,
            };
            if let Some((first, _)) = slot.replace((tensor.clone(), stored)) {
                return Err(LoadError::malformed(file, format!("its tensors {first} and {tensor} mean the same")));
            }
        }
        let mut lora = Lora {
            name: name.to_owned(),
            digest: blake3::Hasher::new().update_rayon(blob).finalize().to_hex().to_string(),
            unet: BTreeMap::new(),
            text_encoder: BTreeMap::new(),
        };
        for ((network, index), found) in found {
            let Some(place) = self.places(network).and_then(|places| places.get(index)) else { continue };
            let factors = found.factors(file, place, |rank| scales.of(network, &place.name, rank))?;
            let layers = match network {
                Network::Unet => &mut lora.unet,
                Network::TextEncoder => &mut lora.text_encoder,
            };
            layers.insert(place.name.clone(), factors);
        }
        Ok(lora)
    }

    /// A network's places by both ways of naming them.
    fn index(&self, network: Network) -> Option<BTreeMap<Layer, usize>> {
        let places = self.places(network)?.iter().enumerate();
        let both = places.flat_map(|(index, place)| {
            let (dotted, joined) = (place.name.clone(), place.name.replace('.', "_"));
            [(Layer::Dotted(dotted), index), (Layer::Joined(joined), index)]
        });
        Some(both.collect())
    }
}

impl Found {
    fn factors(self, file: &str, place: &Place, default: impl Fn(usize) -> f32) -> Result<Factors, LoadError> {
        let missing = |what| LoadError::malformed(file, format!("it has no {what} for the layer {}", place.name));
        let (down_name, down) = self.down.ok_or_else(|| missing("first factor (down, A)"))?;
        let (up_name, up) = self.up.ok_or_else(|| missing("second factor (up, B)"))?;
        let rank = down.shape().first().copied().unwrap_or(0);
        if !(1..=MAX_RANK).contains(&rank) {
            let what = format!("tensor {down_name} has rank {rank}; expected 1 to {MAX_RANK}");
            return Err(LoadError::unsupported(file, what));
        }
        let down_shape: Vec<usize> = [rank].iter().chain(&place.shape[1..]).copied().collect();
        check_shape(file, &down_name, &down, &down_shape)?;
        check_shape(file, &up_name, &up, &[place.shape[0], rank])?;
        check_values(file, &down_name, &down)?;
        check_values(file, &up_name, &up)?;
        let scale = match self.alpha {
            Some((name, alpha)) => read_alpha(file, &name, &alpha)? / rank as f32,
            None => default(rank),
        };
        Ok(Factors { down, up, rank, scale })
    }
}

/// A linear layer's factors may be written as 1×1 convolutions' and the other way round.
fn check_shape(file: &str, name: &str, stored: &Stored, expected: &[usize]) -> Result<(), LoadError> {
    fn bare(shape: &[usize]) -> &[usize] {
        match shape {
            [outputs_inputs @ .., 1, 1] if shape.len() == 4 => outputs_inputs,
            _ => shape,
        }
    }
    if bare(stored.shape()) == bare(expected) {
        return Ok(());
    }
    let (tensor, file) = (crate::error::shown(name), file.to_owned());
    Err(LoadError::WrongShape { tensor, file, expected: expected.into(), found: stored.shape().into() })
}

fn check_values(file: &str, name: &str, stored: &Stored) -> Result<(), LoadError> {
    if !stored.dtype().is_float() {
        let what = format!("tensor {name} has elements of type {}; expected f32, f16, bf16 or f64", stored.dtype());
        return Err(LoadError::unsupported(file, what));
    }
    match WeightTensor::stored(stored).as_f32().iter().find(|value| !value.is_finite()) {
        Some(value) => Err(LoadError::malformed(file, format!("tensor {name} has the value {value}"))),
        None => Ok(()),
    }
}

/// A number alone, of any type that numbers are written in.
fn read_alpha(file: &str, name: &str, stored: &Stored) -> Result<f32, LoadError> {
    if stored.shape().iter().any(|count| *count != 1) {
        let what = format!("tensor {name} has shape {:?}; expected one number", stored.shape());
        return Err(LoadError::malformed(file, what));
    }
    check_values(file, name, stored)?;
    let alpha = WeightTensor::stored(stored).to_f32().first().copied().unwrap_or_default();
    if alpha.abs() > MAX_ALPHA {
        let what = format!("tensor {name} is {alpha}; expected -{MAX_ALPHA} to {MAX_ALPHA}");
        return Err(LoadError::malformed(file, what));
    }
    Ok(alpha)
}

/// What layers without an alpha of their own are scaled by: 1, or what PEFT's configuration in the file's header says.
#[derive(Default)]
struct Scales {
    unet: Alphas,
    text_encoder: Alphas,
}

/// Of one network.
#[derive(Default)]
struct Alphas {
    alpha: Option<f32>,
    /// By the ends of layers' names.
    pattern: BTreeMap<String, f32>,
}

impl Scales {
    fn read(blob: &Blob) -> Result<Self, LoadError> {
        let Some(text) = safetensors_text(blob, PEFT_CONFIG)? else { return Ok(Self::default()) };
        let file = blob.file();
        let invalid = |error| LoadError::malformed(file, format!("its {PEFT_CONFIG} is invalid: {error}"));
        let config: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).map_err(invalid)?;
        let alphas = |prefixes: &[&str]| -> Result<Alphas, LoadError> {
            let field = |name: &str| prefixes.iter().find_map(|prefix| config.get(&format!("{prefix}{name}")));
            let is_true = |name: &str| field(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
            if let Some(name) = ["use_dora", "use_rslora"].into_iter().find(|name| is_true(name)) {
                return Err(LoadError::unsupported(
                    file,
                    format!("its {PEFT_CONFIG} says {name}; only plain LoRA is read"),
                ));
            }
            let number = |name: &str| field(name).filter(|value| !value.is_null()).map(f32::deserialize).transpose();
            let alpha = number("lora_alpha").map_err(invalid)?;
            let pattern = field("alpha_pattern").filter(|value| !value.is_null());
            let pattern = pattern.map(BTreeMap::<String, f32>::deserialize).transpose().map_err(invalid)?;
            let pattern = pattern.unwrap_or_default();
            match alpha.iter().chain(pattern.values()).find(|alpha| alpha.is_nan() || alpha.abs() > MAX_ALPHA) {
                Some(alpha) => {
                    let what = format!("its {PEFT_CONFIG} has the alpha {alpha}; expected -{MAX_ALPHA} to {MAX_ALPHA}");
                    Err(LoadError::malformed(file, what))
                }
                None => Ok(Alphas { alpha, pattern }),
            }
        };
        // A UNet that was saved by itself has no prefix.
        Ok(Self { unet: alphas(&["unet.", ""])?, text_encoder: alphas(&["text_encoder."])? })
    }

    fn of(&self, network: Network, layer: &str, rank: usize) -> f32 {
        let alphas = match network {
            Network::Unet => &self.unet,
            Network::TextEncoder => &self.text_encoder,
        };
        let named = |end: &str| {
            let end = end.strip_prefix("text_model.").unwrap_or(end);
            layer.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let own = alphas.pattern.iter().find(|(end, _)| named(end)).map(|(_, alpha)| *alpha);
        own.or(alphas.alpha).map_or(1.0, |alpha| alpha / rank as f32)
    }
}

#[cfg(feature = "fuzzing")]
impl Layers {
    /// What a file adds to each layer, as its values.
    pub(crate) fn fuzzed(&self, blob: &Blob) -> Result<Vec<crate::fuzzing::AdaptedLayer>, LoadError> {
        let lora = self.lora("fuzzed", blob)?;
        let mut layers = Vec::new();
        for network in [Network::Unet, Network::TextEncoder] {
            for (name, factors) in lora.layers(network) {
                let place = self.places(network).and_then(|places| places.iter().find(|place| place.name == *name));
                let Some(place) = place else { continue };
                layers.push(crate::fuzzing::AdaptedLayer {
                    rank: factors.rank,
                    scale: factors.scale,
                    inputs: place.shape[1..].iter().product(),
                    outputs: place.shape[0],
                    down: WeightTensor::stored(&factors.down).to_f32(),
                    up: WeightTensor::stored(&factors.up).to_f32(),
                });
            }
        }
        Ok(layers)
    }
}
