//! One file that holds a whole model under CompVis' names: safetensors or a torch checkpoint, told apart by their bytes.

use std::collections::BTreeMap;
use std::path::Path;

use super::names::{self, Sizes};
use super::{Blob, Part, Stored, Weights, checkpoint, safetensors, warn_unknown};
use crate::error::LoadError;

/// Signs of models that are not Stable Diffusion v1: a beginning of a tensor's name, and what has it.
const OTHERS: [(&str, &str); 15] = [
    ("conditioner.", "a Stable Diffusion XL model"),
    ("model.diffusion_model.label_emb.", "a model with class embeddings, such as Stable Diffusion XL"),
    ("model.diffusion_model.joint_blocks.", "a Stable Diffusion 3 model"),
    ("model.diffusion_model.double_blocks.", "a Flux model"),
    ("double_blocks.", "a Flux model"),
    ("cond_stage_model.model.", "a Stable Diffusion 2 model (it has an OpenCLIP text encoder)"),
    ("cond_stage_model.bert.", "a latent diffusion model with a BERT text encoder"),
    ("control_model.", "a ControlNet"),
    ("lora_unet_", "a LoRA, which changes a model and is none itself"),
    ("lora_te_", "a LoRA, which changes a model and is none itself"),
    ("emb_params", "a textual inversion, which adds words to a model and is none itself"),
    ("*", "a textual inversion, which adds words to a model and is none itself"),
    ("v_pred", "a model that predicts v"),
    ("down_blocks.", "a UNet alone, with diffusers' names; give the folder that holds its unet/"),
    ("text_model.", "a text encoder alone; give the folder that holds its text_encoder/"),
];

/// An opened single file: its tensors by part, under today's names.
pub(crate) struct SingleFile {
    file: String,
    tensors: BTreeMap<String, Stored>,
    beside: Vec<String>,
    sizes: Sizes,
}

/// What a file of tensors holds.
pub(crate) struct Contents {
    /// Its tensors, by their names there.
    pub(crate) tensors: Vec<(String, Stored)>,
    /// The names of what a torch checkpoint holds beside its `state_dict`.
    pub(crate) beside: Vec<String>,
}

impl SingleFile {
    /// Opens a file and refuses, by name, what is not a Stable Diffusion v1 model.
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        Self::read(&Blob::map(path)?)
    }

    /// As [`SingleFile::open`], of a file's bytes.
    pub(crate) fn read(blob: &Blob) -> Result<Self, LoadError> {
        let contents = Self::of_family(read_contents(blob)?).map_err(|(_, what)| {
            LoadError::unsupported(blob.file(), format!("{what}; Darkroom runs Stable Diffusion v1"))
        })?;
        let file = Self::new(blob, contents);
        warn_unknown(&file.file, file.of_no_part().filter(|name| !names::is_known_extra(name)));
        Ok(file)
    }

    /// Gives contents back whose names do not tell that they are something else's; else what they are.
    pub(crate) fn of_family(contents: Contents) -> Result<Contents, (Contents, &'static str)> {
        let names = contents.tensors.iter().map(|(name, _)| name.as_str());
        match other_family(names) {
            Some(what) => Err((contents, what)),
            None => Ok(contents),
        }
    }

    /// What was read of a file's bytes.
    pub(crate) fn new(blob: &Blob, Contents { tensors, beside }: Contents) -> Self {
        let tensors: BTreeMap<String, Stored> = tensors.into_iter().collect();
        let sizes = Sizes::of(tensors.keys().map(String::as_str));
        Self { file: blob.file().into(), tensors, beside, sizes }
    }

    /// Whether the bytes are a torch checkpoint, and not safetensors.
    pub(crate) fn is_checkpoint(blob: &Blob) -> bool {
        checkpoint::is_archive(blob)
    }

    /// The tensors of one part; those of the UNet's moving average instead of its own where `ema` is set.
    pub(crate) fn part(&self, part: Part, ema: bool) -> Result<Weights, LoadError> {
        let averaged = ema && part == Part::Unet;
        let mut found = Vec::new();
        for (name, stored) in self.tensors.iter().filter(|(name, _)| !names::is_known_extra(name)) {
            let Some((of, new)) = names::from_compvis(name, self.sizes).filter(|(of, _)| *of == part) else { continue };
            let stored = if averaged { self.averaged(name)? } else { stored };
            found.push((new.clone(), names::reshaped(of, &new, stored.clone())));
        }
        if found.is_empty() {
            let prefix = match part {
                Part::TextEncoder => "cond_stage_model.transformer.",
                Part::Unet => "model.diffusion_model.",
                Part::Vae => "first_stage_model.",
                Part::SafetyChecker => "safety_checker.",
            };
            return Err(LoadError::incomplete(&self.file, format!("holds no {part}: no tensor is named {prefix}…")));
        }
        Ok(Weights::new(&self.file, found))
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The names of the tensors that are no part's.
    pub(crate) fn of_no_part(&self) -> impl Iterator<Item = &str> {
        let of_none = |name: &&str| names::is_known_extra(name) || names::from_compvis(name, self.sizes).is_none();
        self.tensors.keys().map(String::as_str).filter(of_none)
    }

    /// The names of what lies beside the tensors: state of a training.
    pub(crate) fn beside(&self) -> &[String] {
        &self.beside
    }

    /// How many of the UNet's tensors have a moving average.
    pub(crate) fn averages(&self) -> usize {
        let of_unet =
            |name: &&String| names::from_compvis(name, self.sizes).is_some_and(|(part, _)| part == Part::Unet);
        let has_average = |name: &String| names::ema_name(name).is_some_and(|name| self.tensors.contains_key(&name));
        self.tensors.keys().filter(of_unet).filter(|name| has_average(name)).count()
    }

    fn averaged(&self, name: &str) -> Result<&Stored, LoadError> {
        let average = names::ema_name(name);
        average.and_then(|name| self.tensors.get(&name)).ok_or_else(|| {
            let what = format!("holds no moving average of {name}: use its plain weights, or the full checkpoint");
            LoadError::incomplete(&self.file, what)
        })
    }
}

/// What a file is, if its tensors' names tell that it is not Stable Diffusion v1.
pub(crate) fn other_family<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let found = OTHERS.iter().find(|(sign, _)| names.clone().any(|name| name.starts_with(sign)));
    found.map(|(_, what)| *what)
}

/// The tensors of a file, as [`read_contents`] finds them.
pub(crate) fn read_tensors(blob: &Blob) -> Result<Vec<(String, Stored)>, LoadError> {
    Ok(read_contents(blob)?.tensors)
}

/// Reads a file's directory by what it is, not by what it is called.
pub(crate) fn read_contents(blob: &Blob) -> Result<Contents, LoadError> {
    let file = blob.file();
    if checkpoint::is_archive(blob) {
        let checkpoint::Checkpoint { tensors, beside } = checkpoint::read_checkpoint(blob)?;
        return Ok(Contents { tensors, beside });
    }
    if checkpoint::is_legacy(blob) {
        let what = "torch's format from before version 1.6; load it with torch and save it again, or as safetensors";
        return Err(LoadError::unsupported(file, what));
    }
    if blob.starts_with(b"version https://git-lfs") {
        return Err(LoadError::unsupported(file, "a Git LFS pointer, not the weights; run git lfs pull"));
    }
    if safetensors::is_safetensors(blob) {
        let tensors = safetensors::read_safetensors(blob)?;
        return Ok(Contents { tensors, beside: Vec::new() });
    }
    let what =
        format!("neither a safetensors file nor a torch checkpoint ({} bytes); it may have been cut short", blob.len());
    Err(LoadError::malformed(file, what))
}
