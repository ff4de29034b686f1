//! A model folder, on disk or within the program.

use std::path::PathBuf;

use crate::error::LoadError;
use crate::weights::Blob;

/// The files of a diffusers folder, by their path within it.
#[derive(Clone)]
pub(crate) enum Files {
    /// A folder on disk.
    Disk(PathBuf),
    /// Files that are a part of the program, and the name they go by.
    Embedded(&'static str, &'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// The folder's name, for messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Disk(path) => path.to_str().unwrap_or("the model's folder"),
            Self::Embedded(name, _) => name,
        }
    }

    /// The bytes of a file, or `None` where there is none.
    pub(crate) fn open(&self, path: &str) -> Result<Option<Blob>, LoadError> {
        match self {
            Self::Disk(folder) => {
                let path = folder.join(path);
                if path.exists() { Blob::map(&path).map(Some) } else { Ok(None) }
            }
            Self::Embedded(name, files) => {
                let found = files.iter().find(|(known, _)| *known == path);
                Ok(found.map(|(_, bytes)| Blob::embedded(&format!("{name}/{path}"), bytes)))
            }
        }
    }

    /// The bytes of a file that a model cannot be without.
    pub(crate) fn require(&self, path: &str) -> Result<Blob, LoadError> {
        self.open(path)?.ok_or_else(|| LoadError::incomplete(self.name(), format!("has no {path}")))
    }
}
