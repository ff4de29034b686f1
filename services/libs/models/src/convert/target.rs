//! Where a converted model goes: beside its place under another name, and to its place when it is whole.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::ConvertError;

/// What a target is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// Endings of files that hold a model and that are not written here. Without this they would be names of folders.
const NOT_WRITTEN: [&str; 5] = ["ckpt", "bin", "pt", "pth", "pickle"];

/// What the target is to be, if its place is free.
pub(super) fn kind_of(target: &Path) -> Result<Kind, ConvertError> {
    let refused = |what| Err(ConvertError::Target { path: target.to_owned(), what });
    // A link that leads nowhere is something, too.
    if target.symlink_metadata().is_ok() {
        return Err(ConvertError::Exists(target.to_owned()));
    }
    if target.file_name().is_none() {
        return refused("not the name of a file or folder");
    }
    if !parent(target).is_dir() {
        return refused("the folder that it would lie in does not exist");
    }
    let ending = target.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    match ending.as_deref() {
        Some("safetensors") => Ok(Kind::File),
        Some(ending) if NOT_WRITTEN.contains(&ending) => {
            refused("pickles are read and never written; name a .safetensors file or a folder")
        }
        _ => Ok(Kind::Folder),
    }
}

fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Names of what is not whole yet.
const UNFINISHED: &str = ".darkroom-unfinished-";

/// Lets others read what is made, as far as the user's umask does.
fn with_usual_permissions<'a>(
    builder: &'a mut Builder<'static, 'static>,
    mode: u32,
) -> &'a mut Builder<'static, 'static> {
    #[cfg(unix)]
    builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder.prefix(UNFINISHED)
}

/// A file that is being written. Dropping it removes it.
pub(super) struct TargetFile {
    unfinished: NamedTempFile,
    target: PathBuf,
}

impl TargetFile {
    pub(super) fn create(target: &Path) -> Result<Self, ConvertError> {
        let unfinished = with_usual_permissions(&mut Builder::new(), 0o666).tempfile_in(parent(target));
        Ok(Self { unfinished: unfinished.map_err(ConvertError::write(target))?, target: target.to_owned() })
    }

    pub(super) fn file(&self) -> &File {
        self.unfinished.as_file()
    }

    /// Puts it in its place, unless something came there meanwhile.
    pub(super) fn finish(self) -> Result<(), ConvertError> {
        self.file().sync_all().map_err(ConvertError::write(&self.target))?;
        let Self { unfinished, target } = self;
        match unfinished.persist_noclobber(&target) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(ConvertError::Exists(target)),
            Err(error) => Err(ConvertError::write(&target)(error.error)),
        }
    }
}

/// A folder that is being filled. Dropping it removes it with all that is in it.
pub(super) struct TargetFolder {
    unfinished: TempDir,
    target: PathBuf,
}

impl TargetFolder {
    pub(super) fn create(target: &Path) -> Result<Self, ConvertError> {
        let unfinished = with_usual_permissions(&mut Builder::new(), 0o777).tempdir_in(parent(target));
        Ok(Self { unfinished: unfinished.map_err(ConvertError::write(target))?, target: target.to_owned() })
    }

    /// A new file in the folder, and the path that it will have.
    pub(super) fn create_file(&self, name: &str) -> Result<(File, PathBuf), ConvertError> {
        let (now, later) = (self.unfinished.path().join(name), self.target.join(name));
        let made = now.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create_new(&now));
        Ok((made.map_err(ConvertError::write(&later))?, later))
    }

    /// A new file with these bytes.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
        let (mut file, path) = self.create_file(name)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(ConvertError::write(&path))
    }

    /// Puts it in its place, unless something came there meanwhile. An empty folder is nothing.
    pub(super) fn finish(self) -> Result<(), ConvertError> {
        let occupied = self.target.symlink_metadata().is_ok();
        if occupied {
            return Err(ConvertError::Exists(self.target));
        }
        let unfinished = self.unfinished.keep();
        let renamed = fs::rename(&unfinished, &self.target);
        if renamed.is_err() {
            // It is no longer removed by itself; that it cannot be removed either is not what went wrong.
            _ = fs::remove_dir_all(&unfinished);
        }
        renamed.map_err(ConvertError::write(&self.target))
    }
}
