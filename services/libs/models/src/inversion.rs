//! Textual inversions (Gal 2022, arXiv:2208.01618): words that stand for vectors which somebody trained, from files that the operator
//! names.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `.pt` of AUTOMATIC1111's web UI | `string_to_param`: a tensor under `*` |
//! | `.safetensors` of kohya's trainer and others | a tensor `emb_params` |
//! | `learned_embeds.bin` or `.safetensors` of diffusers | a tensor under its own word, such as `<cat-toy>` |
//!
//! In prompts stands the file's name without its ending, in capitals or not, or the word in the file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::LoadError;
use crate::config::ClipConfig;
use crate::weights::{Blob, Stored, WeightTensor, read_tensors};

/// Files with other endings are none, such as pictures and notes beside them.
const ENDINGS: [&str; 3] = ["safetensors", "pt", "bin"];
/// Names of tensors that are no words.
const NO_WORDS: [&str; 2] = ["*", "emb_params"];
/// What has vectors for another family's text encoders.
const OTHERS: [&str; 3] = ["clip_g", "clip_l", "t5"];

/// The inversions of one text encoder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inversions {
    list: Vec<Inversion>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inversion {
    /// The file, for messages.
    pub(crate) file: String,
    /// The file's name without its ending.
    pub(crate) name: String,
    /// The word in the file, if it has one.
    pub(crate) word: Option<String>,
    /// How many vectors it has, at least one.
    pub(crate) count: usize,
    /// `[count, hidden_size]`.
    vectors: Vec<f32>,
}

impl Inversions {
    /// Reads all of a folder, by name.
    ///
    /// # Errors
    /// [`LoadError`] for a file that is malformed, or made for another text encoder than `config`'s.
    pub fn from_folder(folder: &Path, config: &ClipConfig) -> Result<Self, LoadError> {
        let unreadable = |source| LoadError::Read { file: folder.display().to_string(), source };
        let entries = fs::read_dir(folder).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut paths: Vec<PathBuf> = paths.map_err(unreadable)?;
        paths.retain(|path| is_inversion(path));
        // So that the same files are the same revision everywhere.
        paths.sort();
        let list = paths.iter().map(|path| Inversion::read(path, config)).collect::<Result<_, _>>()?;
        Ok(Self { list })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What stands for them in prompts: their own words, and the names of their files.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.list.iter().flat_map(|inversion| inversion.word.as_deref().into_iter().chain([inversion.name.as_str()]))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Inversion> {
        self.list.iter()
    }

    /// `[count of all, hidden_size]`: what continues the text encoder's table of tokens.
    pub(crate) fn vectors(&self) -> Vec<f32> {
        self.list.iter().flat_map(|inversion| &inversion.vectors).copied().collect()
    }

    /// All that decides what prompts become, as a part of a revision; empty without inversions.
    pub(crate) fn digest(&self) -> String {
        let digest = |Inversion { name, word, vectors, .. }: &Inversion| {
            let vectors = blake3::hash(bytemuck::cast_slice(vectors));
            format!("{name:?} {word:?} {vectors}\n")
        };
        self.list.iter().map(digest).collect()
    }
}

fn is_inversion(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

impl Inversion {
    fn read(path: &Path, config: &ClipConfig) -> Result<Self, LoadError> {
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self::of(name, &Blob::map(path)?, config)
    }

    fn of(name: String, blob: &Blob, config: &ClipConfig) -> Result<Self, LoadError> {
        let file = blob.file();
        let tensors = read_tensors(blob)?;
        if let Some((other, _)) = tensors.iter().find(|(name, _)| OTHERS.contains(&name.as_str())) {
            let what =
                format!("a textual inversion of another family (it has {other}); Darkroom runs Stable Diffusion v1");
            return Err(LoadError::unsupported(file, what));
        }
        let [(word, stored)] = tensors.as_slice() else {
            let what = format!("a textual inversion is one tensor, it has {}", tensors.len());
            return Err(LoadError::malformed(file, what));
        };
        let (count, vectors) = vectors(file, word, stored, config)?;
        let word = (!NO_WORDS.contains(&word.as_str())).then(|| word.clone());
        if let Some(word) = word.as_ref().filter(|word| word.trim().is_empty()) {
            return Err(LoadError::malformed(file, format!("its word {word:?} is empty")));
        }
        Ok(Self { file: file.to_owned(), name, word, count, vectors })
    }
}

/// The rows of a tensor `[hidden_size]` or `[count, hidden_size]`.
fn vectors(file: &str, name: &str, stored: &Stored, config: &ClipConfig) -> Result<(usize, Vec<f32>), LoadError> {
    let (width, most) = (config.hidden_size, config.max_position_embeddings - 2);
    let count = match stored.shape() {
        [found] if *found == width => 1,
        [count, found] if *found == width && (1..=most).contains(count) => *count,
        found => {
            let expected = format!("[1 to {most}, {width}], vectors of this model's text encoder");
            return Err(LoadError::config(file, &format!("the shape of {name}"), format!("{found:?}"), expected));
        }
    };
    if !stored.dtype().is_float() {
        let what = format!("tensor {name} has elements of type {}; expected f32, f16, bf16 or f64", stored.dtype());
        return Err(LoadError::unsupported(file, what));
    }
    let values = WeightTensor::stored(stored).to_f32();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(LoadError::malformed(file, format!("tensor {name} has the value {value}"))),
        None => Ok((count, values)),
    }
}
