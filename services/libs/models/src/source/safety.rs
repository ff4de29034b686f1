//! Where a safety checker comes from: a model folder's own `safety_checker/`, or a folder that holds one alone.

use std::path::{Path, PathBuf};

use super::{Files, Layout, ModelSource, folder_of};
use crate::config::{PreprocessorConfig, VisionConfig};
use crate::error::LoadError;
use crate::weights::{Part, Weights, folder_weights};

/// The file without which there is no checker.
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";

/// A safety checker that has been found; its weights are opened when it is loaded.
pub struct SafetySource {
    files: Files,
    /// The checker's folder and the feature extractor's, within `files`; empty, or with a slash at the end.
    folder: &'static str,
    extractor: &'static str,
}

impl SafetySource {
    /// The one that a model folder brings along; `None` where it has none, as single files never have.
    ///
    /// # Errors
    /// [`LoadError::Read`] when the folder cannot be looked into.
    pub fn of(model: &ModelSource) -> Result<Option<Self>, LoadError> {
        let Layout::Folder(files) = &model.layout else { return Ok(None) };
        let found =
            Self { files: files.clone(), folder: folder_of(Part::SafetyChecker), extractor: "feature_extractor/" };
        let there = found.files.open(&format!("{}{CONFIG}", found.folder))?.is_some();
        Ok(there.then_some(found))
    }

    /// One in a folder of its own, `safety_checker` of some model or what CompVis published under that name. Its
    /// `preprocessor_config.json` is looked for there and in `../feature_extractor`.
    ///
    /// # Errors
    /// [`LoadError::Incomplete`] when there is none.
    pub fn folder(path: &Path) -> Result<Self, LoadError> {
        let files = Files::Disk(PathBuf::from(path));
        files.require(CONFIG)?;
        let extractor = if files.open(PREPROCESSOR)?.is_some() { "" } else { "../feature_extractor/" };
        Ok(Self { files, folder: "", extractor })
    }

    /// How pictures are prepared for it: as its file says, or as OpenAI's CLIP takes them.
    ///
    /// # Errors
    /// [`LoadError`] when the file is malformed, asks for something else, or does not fit the tower.
    pub(crate) fn preprocessor(&self, tower: &VisionConfig) -> Result<PreprocessorConfig, LoadError> {
        let path = format!("{}{PREPROCESSOR}", self.extractor);
        let Some(blob) = self.files.open(&path)? else {
            let size = tower.image_size;
            return Ok(PreprocessorConfig { shortest_edge: size, crop_size: size, ..Default::default() });
        };
        let config = PreprocessorConfig::from_json(blob.file(), &blob)?;
        if config.crop_size != tower.image_size {
            let expected = format!("{}, the image_size of the vision tower", tower.image_size);
            return Err(LoadError::config(blob.file(), "crop_size", config.crop_size, expected));
        }
        Ok(config)
    }

    /// Both configurations, and the weights.
    ///
    /// # Errors
    /// [`LoadError`] when any is missing, malformed or of another family.
    pub(crate) fn open(&self) -> Result<(VisionConfig, PreprocessorConfig, Weights), LoadError> {
        let blob = self.files.require(&format!("{}{CONFIG}", self.folder))?;
        let tower = VisionConfig::from_json(blob.file(), &blob)?;
        let preprocessor = self.preprocessor(&tower)?;
        let weights = folder_weights(&self.files, self.folder, Part::SafetyChecker)?;
        let weights = weights.with_config(&(&tower, &preprocessor))?;
        Ok((tower, preprocessor, weights))
    }
}
