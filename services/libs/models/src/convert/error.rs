//! Why a model was not converted.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{LoadError, shown};

/// A conversion that did not happen. Nothing is left where the target would be.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source is not a whole model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The target is there already.
    #[error("{} exists already; nothing is overwritten", .0.display())]
    Exists(PathBuf),
    /// The target is nothing that can be written.
    #[error("{}: {what}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// Why not, and what would do.
        what: &'static str,
    },
    /// The target's layout cannot say something that the source says.
    #[error("{source_name} cannot become a single file, which holds weights and nothing else: {}", .reasons.join("; "))]
    Inexpressible {
        /// The source.
        source_name: String,
        /// Each thing that would be read back as another, with both values.
        reasons: Vec<String>,
    },
    /// A value is too large for half precision, whose largest is 65504.
    #[error("tensor {tensor} of {file} holds {value}, and half precision ends at 65504; convert it without rounding")]
    Overflow {
        /// The tensor's name in the target.
        tensor: String,
        /// The file that holds it.
        file: String,
        /// The value.
        value: f64,
    },
    /// The target cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The target, or a file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The caller asked for the end.
    #[error("stopped before it was whole")]
    Stopped,
}

impl ConvertError {
    /// For `map_err`: what came of writing `path`.
    pub(super) fn write(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write { path: path.to_owned(), source }
    }

    pub(super) fn inexpressible(source: &str, reasons: Vec<String>) -> Self {
        Self::Inexpressible { source_name: source.to_owned(), reasons: reasons.into_iter().map(shown).collect() }
    }
}
