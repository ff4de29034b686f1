//! The tiny model with seeded weights, and a place for its files in every layout.

use std::path::PathBuf;

use tempfile::TempDir;
use testkit::formats::{CheckpointExtras, Precision, Saving};
use testkit::seeded::{self, Configs, Part, SeededTensor};

/// Any; the weights follow from it.
const SEED: u64 = 5;

pub(crate) struct Tiny {
    pub(crate) at: TempDir,
    pub(crate) configs: Configs,
    pub(crate) tensors: Vec<SeededTensor>,
}

impl Tiny {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let configs = Configs::tiny()?;
        let tensors = seeded::model(&configs, SEED);
        Ok(Self { at: tempfile::tempdir()?, configs, tensors })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.at.path().join(name)
    }

    pub(crate) fn saving(&self, precision: Precision) -> Saving<'_> {
        Saving { configs: &self.configs, tensors: &self.tensors, precision }
    }

    /// What a moving average may hold: tensors like the model's with other elements.
    pub(crate) fn averages(&self) -> Vec<SeededTensor> {
        seeded::model(&self.configs, SEED + 1)
    }

    /// A checkpoint with the state of a training, and with a moving average of the UNet where there is one.
    pub(crate) fn checkpoint(&self, name: &str, ema: Option<&[SeededTensor]>) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        self.saving(Precision::F32).checkpoint(&path, &CheckpointExtras { ema, lightning: true })?;
        Ok(path)
    }

    /// Tensors and elements of a part.
    pub(crate) fn amount(&self, part: Part) -> (usize, u64) {
        let of_part = || self.tensors.iter().filter(|tensor| tensor.part == part);
        (of_part().count(), of_part().map(|tensor| tensor.data.len() as u64).sum())
    }
}
