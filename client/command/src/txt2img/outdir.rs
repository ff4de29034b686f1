//! The output folder: checked before anything is computed, written to file by whole file, nothing ever replaced.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::{Builder, NamedTempFile};

use crate::failure::Failure;

/// A folder that was there or could be made, and can be written to.
#[derive(Debug)]
pub(crate) struct OutDir {
    root: PathBuf,
    samples: PathBuf,
    /// The number of this run's first picture.
    first_sample: u64,
}

impl OutDir {
    /// Makes the folder where it is missing and tries to write into it.
    pub(crate) fn prepare(root: &Path) -> Result<Self, Failure> {
        let samples = root.join("samples");
        for folder in [root, &samples] {
            fs::create_dir_all(folder)
                .and_then(|()| temporary(folder))
                .with_context(|| format!("--outdir: cannot write to {}", folder.display()))?;
        }
        let first_sample = next_number(&samples, "")?;
        Ok(Self { root: root.to_owned(), samples, first_sample })
    }

    /// Saves the picture that is the `index`-th of this run.
    pub(crate) fn save_sample(&self, index: u64, extension: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let number = self.first_sample + index;
        save_new(&self.samples, bytes, |tries| format!("{:05}.{extension}", number + tries))
    }

    /// Saves the grid of this run's pictures.
    pub(crate) fn save_grid(&self, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let number = next_number(&self.root, "grid-")?;
        save_new(&self.root, bytes, |tries| format!("grid-{:04}.png", number + tries))
    }

    /// Saves a preview of the `index`-th picture in place of an earlier one.
    pub(crate) fn save_preview(&self, index: u64, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let folder = self.root.join("previews");
        let path = folder.join(format!("{:05}.png", self.first_sample + index));
        let write = || {
            fs::create_dir_all(&folder)?;
            filled(&folder, bytes)?.persist(&path).map_err(|error| error.error)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Writes `bytes` under the first of the `names` (by the number of tries) that is free. It is there as a whole or not at all.
fn save_new(folder: &Path, bytes: &[u8], names: impl Fn(u64) -> String) -> anyhow::Result<PathBuf> {
    let failed = || format!("cannot write to {}", folder.display());
    let mut file = filled(folder, bytes).with_context(failed)?;
    for tries in 0.. {
        let path = folder.join(names(tries));
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            // Another run counts on in the same folder.
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => file = error.file,
            Err(error) => return Err(error.error).with_context(failed),
        }
    }
    anyhow::bail!("no number is left in {}", folder.display())
}

fn filled(folder: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut file = temporary_file(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    Ok(file)
}

fn temporary(folder: &Path) -> std::io::Result<()> {
    temporary_file(folder).map(drop)
}

/// A hidden file that vanishes when it is dropped, with the permissions of any new file.
fn temporary_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // Less the user's umask, as for every file that a program creates.
    let permissions = fs::Permissions::from_mode(0o666);
    Builder::new().prefix(".darkroom-").permissions(permissions).tempfile_in(folder)
}

/// One more than the largest number among files named `{prefix}NUMBER.anything`.
fn next_number(folder: &Path, prefix: &str) -> anyhow::Result<u64> {
    let failed = || format!("cannot list {}", folder.display());
    let mut next = 0;
    for entry in fs::read_dir(folder).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        let number = Path::new(&name).file_stem().and_then(|stem| stem.to_str()?.strip_prefix(prefix)?.parse().ok());
        next = next.max(number.map_or(0, |number: u64| number.saturating_add(1)));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_on_and_nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("samples")).unwrap();
        fs::write(folder.path().join("samples/00041.jpg"), "old").unwrap();
        fs::write(folder.path().join("samples/notes.txt"), "mine").unwrap();
        let outdir = OutDir::prepare(folder.path()).unwrap();
        assert_eq!(outdir.save_sample(0, "png", b"a").unwrap(), folder.path().join("samples/00042.png"));
        fs::write(folder.path().join("samples/00043.png"), "another run's").unwrap();
        assert_eq!(outdir.save_sample(1, "png", b"b").unwrap(), folder.path().join("samples/00044.png"));
        assert_eq!(outdir.save_grid(b"g").unwrap(), folder.path().join("grid-0000.png"));
        assert_eq!(outdir.save_grid(b"h").unwrap(), folder.path().join("grid-0001.png"));
        assert_eq!(fs::read(folder.path().join("samples/00043.png")).unwrap(), b"another run's");
        // No temporary file stays.
        assert_eq!(fs::read_dir(folder.path().join("samples")).unwrap().count(), 5);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("taken");
        fs::write(&file, "").unwrap();
        let failure = OutDir::prepare(&file.join("out")).unwrap_err().to_string();
        assert!(failure.starts_with("--outdir: cannot write to ") && failure.contains("taken"), "{failure}");
    }
}
