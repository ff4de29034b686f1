//! LoRA (Hu 2021, arXiv:2106.09685): adapters of a model's layers by low rank, `y = W x + weight · scale · B (A x)`, from files that the
//! operator names.
//!
//! | layout | a layer's tensors |
//! | --- | --- |
//! | kohya-ss' `sd-scripts` (`networks/lora.py`) | `lora_unet_…_attn1_to_q.lora_down.weight`, `.lora_up.weight`, `.alpha`; `lora_te_…` |
//! | diffusers with PEFT | `unet.….attn1.to_q.lora_A.weight`, `.lora_B.weight`; `text_encoder.…` |
//! | diffusers before that | `unet.….attn1.processor.to_q_lora.down.weight`, `….to_q.lora.down.weight`, `….lora_linear_layer.down.weight` |
//!
//! `scale` is alpha / rank where there is an alpha, else 1. A request names adapters and weights; they are added row by row where a layer's
//! product is ([`layers`]), so that requests with and without them share a batch, and the model's packed weights stay what they are.

mod file;
mod keys;
mod layers;
mod set;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::LoadError;
use crate::compute::{ModelError, Place};
use crate::outline::{text_encoder_places, unet_places};
use crate::source::{ModelSource, present};
use crate::weights::Blob;
use file::Factors;

pub(crate) use layers::{Adapted, AdaptedAttention, Updates};
pub(crate) use set::Set;

/// Files with another ending are none, such as pictures and notes beside them.
const ENDING: &str = "safetensors";
/// Files of one folder, at most.
const MAX_FILES: usize = 1024;
/// Characters of a name, at most.
const MAX_NAME: usize = 128;
/// Adapters of one request, at most.
pub const MAX_USES: usize = 8;
/// The largest weight, of either sign.
pub const MAX_WEIGHT: f64 = 10.0;

/// The adapters of one model, sorted by name.
#[derive(Clone, Default)]
pub struct Loras {
    list: Arc<Vec<Lora>>,
}

/// One of them: for each layer of a network, by its name, the two factors.
pub(crate) struct Lora {
    name: String,
    digest: String,
    unet: BTreeMap<String, Factors>,
    text_encoder: BTreeMap<String, Factors>,
}

/// What an adapter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Network {
    Unet,
    TextEncoder,
}

/// An adapter that a request uses.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraUse {
    /// The file's name without its ending.
    pub name: String,
    /// How much of it is added: 1 is all, less than 0 takes it away.
    pub weight: f64,
}

impl Loras {
    /// Reads all of a folder.
    ///
    /// # Errors
    /// [`LoadError`] for a file that is malformed, made for another model than `source`, or of a kind that is not supported.
    pub fn from_folder(folder: &Path, source: &ModelSource) -> Result<Self, LoadError> {
        let shown = folder.display().to_string();
        let unreadable = |error| LoadError::Read { file: shown.clone(), source: error };
        let entries = fs::read_dir(folder).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut paths: Vec<PathBuf> = paths.map_err(unreadable)?;
        paths.retain(|path| is_lora(path));
        if paths.len() > MAX_FILES {
            let what = format!("a folder of {} LoRAs; at most {MAX_FILES} are read", paths.len());
            return Err(LoadError::unsupported(&shown, what));
        }
        let layers = Layers::of(source)?;
        let mut list = paths.iter().map(|path| layers.read(path)).collect::<Result<Vec<_>, _>>()?;
        // So that the same files are the same revision everywhere.
        list.sort_by(|first, second| first.name.cmp(&second.name));
        if let Some([_, second]) = list.array_windows().find(|[first, second]| first.name == second.name) {
            return Err(LoadError::malformed(&shown, format!("two files are named {:?}", second.name)));
        }
        for Lora { name, digest, unet, text_encoder } in &list {
            let (unet, text_encoder) = (unet.len(), text_encoder.len());
            tracing::info!(name, digest, unet, text_encoder, "a LoRA was read, for so many layers");
        }
        Ok(Self { list: Arc::new(list) })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Their names, each with a hash of its file.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|lora| (lora.name.as_str(), lora.digest.as_str()))
    }

    /// Memory that the packed factors of these take, at most.
    pub(crate) fn bytes(&self, network: Network, uses: &[LoraUse]) -> usize {
        let used = self.list.iter().filter(|lora| uses.iter().any(|used| used.name == lora.name));
        used.flat_map(|lora| lora.layers(network).values()).map(Factors::bytes).sum()
    }

    /// All that decides what they add, as a part of a revision; empty without any.
    pub(crate) fn digest(&self) -> String {
        self.files().map(|(name, digest)| format!("lora {name:?} {digest}\n")).collect()
    }

    /// The named ones, but for those with no weight.
    pub(crate) fn used(&self, uses: &[LoraUse]) -> Result<Vec<(&Lora, f32)>, ModelError> {
        let find = |LoraUse { name, weight }: &LoraUse| {
            let lora = self.list.iter().find(|lora| lora.name == *name);
            let lora = lora.ok_or_else(|| ModelError::input("loras", format!("has {name:?}, which is not loaded")))?;
            if !weight.is_finite() {
                return Err(ModelError::input("loras", format!("has the weight {weight}; expected a finite number")));
            }
            Ok((lora, *weight as f32))
        };
        let used = uses.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        Ok(used.into_iter().filter(|(_, weight)| *weight != 0.0).collect())
    }
}

impl Lora {
    /// What it adds to each layer.
    fn layers(&self, network: Network) -> &BTreeMap<String, Factors> {
        match network {
            Network::Unet => &self.unet,
            Network::TextEncoder => &self.text_encoder,
        }
    }
}

fn is_lora(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(ENDING))
}

/// The layers of a model's networks that adapters may change; `None` for a network that is not there.
pub(crate) struct Layers {
    unet: Option<Vec<Place>>,
    text_encoder: Option<Vec<Place>>,
}

impl Layers {
    pub(crate) fn of(source: &ModelSource) -> Result<Self, LoadError> {
        Ok(Self {
            unet: present(source.unet_config())?.map(|config| unet_places(&config)).transpose()?,
            text_encoder: present(source.text_encoder_config())?
                .map(|config| text_encoder_places(&config))
                .transpose()?,
        })
    }

    fn read(&self, path: &Path) -> Result<Lora, LoadError> {
        let name = path.file_stem().and_then(|name| name.to_str());
        let blob = Blob::map(path)?;
        let name = name.filter(|name| is_name(name)).ok_or_else(|| {
            let what = format!(
                "a LoRA's name has 1 to {MAX_NAME} characters, none of them a control character or one of : < >"
            );
            LoadError::unsupported(blob.file(), what)
        })?;
        self.lora(name, &blob)
    }

    fn places(&self, network: Network) -> Option<&[Place]> {
        match network {
            Network::Unet => self.unet.as_deref(),
            Network::TextEncoder => self.text_encoder.as_deref(),
        }
    }
}

/// Whether requests and the texts beside pictures can name it: `<lora:name:1>`.
fn is_name(name: &str) -> bool {
    let unfit = |letter: char| letter.is_control() || matches!(letter, ':' | '<' | '>');
    (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(unfit)
}
