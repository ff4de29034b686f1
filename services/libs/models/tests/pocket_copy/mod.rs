//! A copy of the pocket model's folder in which a test may change files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// Copies the folder; it goes when the guard does.
pub(crate) fn pocket_copy() -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let from = repository().join("deploy/models/pocket");
    for folder in ["", "scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
        fs::create_dir_all(to.path().join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    to
}

/// Sets one field of a JSON file.
pub(crate) fn set(path: &Path, field: &str, value: Value) {
    let mut object: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    object[field] = value;
    fs::write(path, object.to_string()).unwrap();
}
