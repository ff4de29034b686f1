//! Why a model cannot be loaded: each error names its file and what in it does not fit.

use std::fmt;
use std::path::PathBuf;

/// A model that cannot be loaded.
///
/// Messages are for the person who gave the path: they name the file, the tensor or field, what was found and what would
/// fit.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file or folder cannot be opened or read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The path as it was given or derived.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The name given as a model is no file, no folder and no embedded model.
    #[error("no model at {}: give a diffusers folder, a .safetensors or .ckpt file, or \"pocket\"", .0.display())]
    NotFound(PathBuf),
    /// A part that a whole model needs is not there.
    #[error("{file} {what}")]
    Incomplete {
        /// The model's folder or file.
        file: String,
        /// What is missing, and where it was looked for.
        what: String,
    },
    /// The file is not what its format promises: cut short, damaged or hostile.
    #[error("{file} is malformed: {what}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong, with the offset where that is known.
        what: String,
    },
    /// The file is sound, and is something that Darkroom does not run.
    #[error("{file} is not supported: {what}")]
    Unsupported {
        /// The file.
        file: String,
        /// What it is, by name, and what would be accepted.
        what: String,
    },
    /// A field of a configuration is outside of what the architecture allows.
    #[error("{file}: {field} is {value}; expected {expected}")]
    Config {
        /// The configuration file, or the weights it was inferred from.
        file: String,
        /// The field's name, as in the file.
        field: String,
        /// The value found.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// A tensor that the configuration calls for is not in the weights.
    #[error("tensor {tensor} is missing from {file}; its shape would be {}", Shape(.expected))]
    MissingTensor {
        /// Its name, as diffusers has it today.
        tensor: String,
        /// The file that was searched.
        file: String,
        /// The shape that the configuration gives it.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {tensor} of {file} has shape {}; its configuration expects {}", Shape(.found), Shape(.expected))]
    WrongShape {
        /// Its name, as diffusers has it today.
        tensor: String,
        /// The file that holds it.
        file: String,
        /// The shape that the configuration gives it.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// The device cannot take the model: absent, not compiled in, or out of memory.
    #[error("{0}")]
    Device(String),
}

/// A shape as people write it: `[320, 4, 3, 3]`.
struct Shape<'a>(&'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl LoadError {
    pub(crate) fn malformed(file: &str, what: impl fmt::Display) -> Self {
        Self::Malformed { file: file.into(), what: shown(what) }
    }

    pub(crate) fn unsupported(file: &str, what: impl fmt::Display) -> Self {
        Self::Unsupported { file: file.into(), what: shown(what) }
    }

    pub(crate) fn incomplete(file: &str, what: impl fmt::Display) -> Self {
        Self::Incomplete { file: file.into(), what: shown(what) }
    }

    pub(crate) fn config(file: &str, field: &str, value: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self::Config { file: file.into(), field: shown(field), value: shown(value), expected: shown(expected) }
    }
}

/// Bytes of a text from a file that a message shows.
const SHOWN: usize = 400;

/// What a message says, cut where a hostile file would flood it: names in files are as long as their writers like.
pub(crate) fn shown(text: impl fmt::Display) -> String {
    let mut text = text.to_string();
    if text.len() > SHOWN {
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push('…');
    }
    text
}
