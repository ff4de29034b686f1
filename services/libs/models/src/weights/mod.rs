//! The tensors of one part of a model, under the names that diffusers gives them today, whatever file they came from.
//!
//! Bytes stay in the mapped file until a network asks for them: opening a 4 GB checkpoint reads its directory alone.
//!
//! | layout | read by |
//! | --- | --- |
//! | diffusers folder: safetensors (also fp16, also sharded), `.bin` | [`folder`] |
//! | one safetensors file or torch `.ckpt` with CompVis' names | [`single`] |
//! | names of all these → today's | [`names`] |

mod blob;
mod checkpoint;
mod dtype;
mod folder;
pub(crate) mod names;
mod revision;
mod safetensors;
mod single;
mod stored;
mod tensor;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::error::{LoadError, shown};

pub(crate) use blob::Blob;
pub use dtype::Dtype;
pub(crate) use folder::{folder_tensors, folder_weights};
pub(crate) use revision::revision_with;
pub(crate) use safetensors::{read_safetensors, safetensors_text};
pub(crate) use single::{SingleFile, read_contents, read_tensors};
pub(crate) use stored::Stored;
pub use tensor::WeightTensor;

/// The most names a warning lists.
const NAMES_SHOWN: usize = 5;

/// The networks of a model: three that make pictures, and one that looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    TextEncoder,
    Unet,
    Vae,
    SafetyChecker,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextEncoder => "text encoder",
            Self::Unet => "UNet",
            Self::Vae => "autoencoder",
            Self::SafetyChecker => "safety checker",
        })
    }
}

/// One network's tensors, by diffusers' current names (`down_blocks.0.resnets.0.conv1.weight`); the text encoder's have no
/// `text_model.` prefix (`encoder.layers.0.self_attn.q_proj.weight`).
pub struct Weights {
    /// The folder or file, for messages.
    file: String,
    tensors: BTreeMap<String, Entry>,
    /// The configuration as canonical JSON: a part of the revision.
    config: String,
}

struct Entry {
    stored: Stored,
    /// Of its bytes, taken when a network asked for them.
    digest: OnceLock<blake3::Hash>,
}

impl Entry {
    fn digest(&self, bytes: &[u8]) -> blake3::Hash {
        *self.digest.get_or_init(|| revision::digest(bytes))
    }
}

impl Weights {
    /// Gathers tensors that already have their current names; where a name comes twice the last one holds.
    pub(crate) fn new(file: &str, tensors: impl IntoIterator<Item = (String, Stored)>) -> Self {
        let entry = |stored| Entry { stored, digest: OnceLock::new() };
        let tensors = tensors.into_iter().map(|(name, stored)| (name, entry(stored))).collect();
        Self { file: file.into(), tensors, config: String::new() }
    }

    /// Ties the weights to their configuration, which their revision covers.
    pub(crate) fn with_config(mut self, config: &impl serde::Serialize) -> Result<Self, LoadError> {
        self.config = serde_json::to_string(config).map_err(|error| LoadError::malformed(&self.file, error))?;
        Ok(self)
    }

    /// The folder or file that holds the weights, for messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names and shapes of all tensors, sorted by name.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.stored.shape()))
    }

    /// All tensors as they lie, sorted by name.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), &entry.stored))
    }

    /// The shape of a tensor, if it is there.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.stored.shape())
    }

    /// The tensor of this name, which must have this shape; it then counts as known to the network.
    ///
    /// Its elements are not read before the shape has been compared, so a configuration cannot make anyone allocate
    /// more than the file holds. They are hashed while they are at hand: so the revision costs no second reading.
    ///
    /// # Errors
    /// [`LoadError::MissingTensor`], [`LoadError::WrongShape`], or [`LoadError::Unsupported`] for elements that are not
    /// floating-point numbers.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<WeightTensor<'_>, LoadError> {
        let Some(entry) = self.tensors.get(name) else {
            let (tensor, file) = (name.into(), self.file.clone());
            return Err(LoadError::MissingTensor { tensor, file, expected: shape.into() });
        };
        let (file, found) = (entry.stored.file(), entry.stored.shape());
        if found != shape {
            let (tensor, file) = (name.into(), file.into());
            return Err(LoadError::WrongShape { tensor, file, expected: shape.into(), found: found.into() });
        }
        if !entry.stored.dtype().is_float() {
            let what =
                format!("tensor {name} has elements of type {}; expected f32, f16, bf16 or f64", entry.stored.dtype());
            return Err(LoadError::unsupported(file, what));
        }
        let tensor = WeightTensor::stored(&entry.stored);
        entry.digest(&tensor.bytes);
        Ok(tensor)
    }

    /// A hash of the names, shapes, types and bytes of all tensors and of the configuration, in hexadecimal: the same for
    /// the same model in any layout. Reads the bytes that no network has asked for yet, on all of rayon's threads.
    #[must_use]
    pub fn revision(&self) -> String {
        let tensors: Vec<_> = self.tensors.iter().collect();
        let digested: Vec<_> = tensors
            .into_par_iter()
            .map(|(name, entry)| {
                let digest = entry.digest.get().copied();
                let digest = digest.unwrap_or_else(|| entry.digest(&WeightTensor::stored(&entry.stored).bytes));
                revision::Tensor { name, stored: &entry.stored, digest }
            })
            .collect();
        revision::revision(&digested, &self.config)
    }

    /// Says that the network is built: warns, once, of the tensors it never asked for.
    pub fn finish(&self) {
        let unread = |entry: &Entry| entry.digest.get().is_none();
        let unknown = self.tensors.iter().filter(|(_, entry)| unread(entry)).map(|(name, _)| name.as_str());
        warn_unknown(&self.file, unknown);
    }
}

/// Warns of tensors that nothing reads: how many, and the first few by name.
fn warn_unknown<'a>(file: &str, names: impl Iterator<Item = &'a str>) {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return;
    }
    let first: Vec<&str> = names.by_ref().take(NAMES_SHOWN).collect();
    let count = first.len() + names.count();
    let shown = shown(first.join(", "));
    tracing::warn!(
        file,
        count,
        first = shown,
        "the weights hold tensors that the model does not have; they are ignored"
    );
}
