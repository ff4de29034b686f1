//! What a model is: its layout, its networks and their sizes, whether it brings its moving average, and what it lacks.
//!
//! Nothing but directories and configurations is read: a checkpoint of 4 GB is told of at once.

mod part;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::config;
use crate::error::LoadError;
use crate::left_out::{self, LeftOut};
use crate::pocket;
use crate::source::{ModelSource, SafetySource, SourceOptions};
use crate::tokenizer::Tokenizer;
use crate::weights::{Blob, Part, SingleFile, Stored, read_contents};

pub use part::PartReport;

/// How a model lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A diffusers folder, or the embedded one.
    DiffusersFolder,
    /// One safetensors file with CompVis' names.
    Safetensors,
    /// One file of torch (`.ckpt`) with CompVis' names.
    Checkpoint,
}

/// What a model is and has.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The name that requests would use.
    pub name: String,
    /// How it lies on disk.
    pub layout: Layout,
    /// What it is, for people: "Stable Diffusion v1, text to image".
    pub what: String,
    /// Whether every network is there as its configuration asks for it, so that Darkroom runs it.
    pub whole: bool,
    /// The sum of all tensors, those that no network reads among them.
    pub total: Amount,
    /// Text encoder, UNet, autoencoder, and the safety checker where there is one. Empty for another family's model.
    pub parts: Vec<PartReport>,
    /// The UNet's moving average: how many of its tensors have one; none in a folder, which holds one of the two.
    pub ema_tensors: usize,
    /// What keeps the parts from being a model together: a vocabulary that is missing, a schedule that is not v1's.
    pub problems: Vec<String>,
    /// The noise schedule, as diffusers' `scheduler_config.json` has it; a single file has none and takes v1's.
    pub schedule: Option<Value>,
    /// What no network reads.
    pub left_out: Vec<LeftOut>,
}

/// Tensors, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// How many tensors have elements of each type.
    pub dtypes: BTreeMap<String, usize>,
}

impl Amount {
    fn of<'a>(tensors: impl Iterator<Item = &'a Stored>) -> Self {
        let mut amount = Self::default();
        for stored in tensors {
            amount.tensors += 1;
            // Tensors may overlap in a hostile file, so that their sum is larger than any file.
            amount.parameters = amount.parameters.saturating_add(stored.shape().iter().product::<usize>() as u64);
            amount.bytes = amount.bytes.saturating_add(stored.byte_len() as u64);
            *amount.dtypes.entry(stored.dtype().to_string()).or_default() += 1;
        }
        amount
    }
}

/// Looks at a model: "pocket", or the path of a folder or file.
///
/// # Errors
/// [`LoadError`] where there is nothing to tell of: no model, a malformed file, a folder of another family. What is merely incomplete
/// is reported, and so is a single file of another family.
pub fn inspect(source: &str) -> Result<Inspection, LoadError> {
    let path = Path::new(source);
    if source == pocket::NAME || !path.is_file() {
        return of_model(&ModelSource::resolve(Some(source), SourceOptions::default())?, Layout::DiffusersFolder);
    }
    let blob = Blob::map(path)?;
    let contents = read_contents(&blob)?;
    let layout = if SingleFile::is_checkpoint(&blob) { Layout::Checkpoint } else { Layout::Safetensors };
    let name = path.file_stem().map_or_else(|| source.into(), |stem| stem.to_string_lossy().into_owned());
    match SingleFile::of_family(contents) {
        Ok(contents) => {
            let total = Amount::of(contents.tensors.iter().map(|(_, stored)| stored));
            let file = SingleFile::new(&blob, contents);
            let inspection = of_model(&ModelSource::single(name, file, SourceOptions::default())?, layout)?;
            Ok(Inspection { total, ..inspection })
        }
        Err((contents, what)) => {
            let total = Amount::of(contents.tensors.iter().map(|(_, stored)| stored));
            Ok(Inspection { total, ..other_family(name, layout, what) })
        }
    }
}

fn of_model(source: &ModelSource, layout: Layout) -> Result<Inspection, LoadError> {
    let mut looked = vec![part::text_encoder(source), part::unet(source), part::vae(source)];
    let mut problems = Vec::new();
    match SafetySource::of(source) {
        Ok(Some(checker)) => looked.push(part::safety_checker(&checker)),
        Ok(None) => {}
        Err(error) => problems.push(error.to_string()),
    }
    if let Err(error) = source.tokenizer() {
        // Without the text encoder's configuration there is no telling, and that is told already.
        if source.text_encoder_config().is_ok() {
            problems.push(error.to_string());
        }
    }
    let networks: Vec<_> = looked.iter().filter_map(|(_, network)| network.as_ref()).collect();
    let left_out = left_out::of(source, networks.iter().copied())?;
    let total = Amount::of(networks.iter().flat_map(|network| network.weights.stored().map(|(_, stored)| stored)));
    let parts: Vec<PartReport> = looked.into_iter().map(|(report, _)| report).collect();
    Ok(Inspection {
        name: source.name().to_owned(),
        layout,
        what: what_of(source),
        whole: problems.is_empty() && parts.iter().all(PartReport::is_whole),
        total,
        parts,
        ema_tensors: source.single_file().map_or(0, SingleFile::averages),
        problems,
        schedule: Some(config::schedule_json(&source.schedule())),
        left_out,
    })
}

/// "Stable Diffusion v1, text to image, CLIP's vocabulary, 512×512".
fn what_of(source: &ModelSource) -> String {
    let mut what = vec!["Stable Diffusion v1".to_owned()];
    if let Ok(unet) = source.unet_config() {
        let kind = if unet.inpainting() { "inpainting (its UNet reads mask and picture)" } else { "text to image" };
        what.push(kind.into());
    }
    if let Ok(defaults) = source.defaults() {
        what.push(format!("{}×{}", defaults.width, defaults.height));
    }
    let own = source.files().is_some_and(|files| !Tokenizer::is_clips(files).unwrap_or(true));
    if own {
        what.push("a vocabulary of its own".into());
    }
    what.join(", ")
}

fn other_family(name: String, layout: Layout, what: &str) -> Inspection {
    Inspection {
        name,
        layout,
        what: what.into(),
        whole: false,
        total: Amount::default(),
        parts: Vec::new(),
        ema_tensors: 0,
        problems: vec!["Darkroom runs Stable Diffusion v1".into()],
        schedule: None,
        left_out: Vec::new(),
    }
}

impl Inspection {
    /// The part of this name ("UNet", "text encoder", "autoencoder", "safety checker"), if it is told of.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&PartReport> {
        self.parts.iter().find(|part| part.part == name)
    }

    /// How many tensors the UNet of the model has.
    #[must_use]
    pub fn unet_tensors(&self) -> usize {
        self.part(&Part::Unet.to_string()).map_or(0, |unet| unet.amount.tensors)
    }
}
