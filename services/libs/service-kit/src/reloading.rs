//! What is made of files, and made anew when they change: certificates with their keys, and who may ask.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Files are looked at when somebody wants what they hold, and no more often than this.
const LOOKS: Duration = Duration::from_secs(1);

type Read<T> = dyn Fn() -> anyhow::Result<T> + Send + Sync;

/// A value that follows its files. Whoever replaces several files one after the other is not caught between two of them: what cannot be
/// used leaves the value as it was, and the next change is another chance.
pub struct Reloading<T> {
    /// What it is, for the log.
    what: &'static str,
    files: Vec<PathBuf>,
    read: Box<Read<T>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    /// The files as they were before they were read last.
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
}

/// Tells one state of a file from another. A mounted secret is replaced by a link to other files, so the inode counts as well.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> Reloading<T> {
    /// Reads the files for the first time. `read` must say in its errors which file is wrong, and nothing of what is secret in it.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let stamps = stamps(&files);
        let state = State { value: Arc::new(read()?), stamps, looked: Instant::now() };
        Ok(Self { what, files, read: Box::new(read), state: Mutex::new(state) })
    }

    /// What the files hold now, or held when they could be used last. At most once a second it looks at them, which are few and small:
    /// so it may be called from tasks.
    pub fn get(&self) -> Arc<T> {
        self.get_at(Instant::now())
    }

    fn get_at(&self, now: Instant) -> Arc<T> {
        let mut state = self.state();
        if now.saturating_duration_since(state.looked) >= LOOKS {
            state.looked = now;
            let stamps = stamps(&self.files);
            if stamps != state.stamps {
                state.stamps = stamps;
                match (self.read)() {
                    Ok(value) => {
                        state.value = Arc::new(value);
                        tracing::info!("{} have changed, and are used from now on", self.what);
                    }
                    Err(error) => {
                        tracing::error!("{} have changed and cannot be used, those before stay: {error:#}", self.what);
                    }
                }
            }
        }
        Arc::clone(&state.value)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing of the value, which may be secret.
impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("what", &self.what).field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| stamp(file)).collect()
}

/// `None` for a file that is not there.
fn stamp(file: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(file).ok()?;
    Some(Stamp {
        inode: of.ino(),
        length: of.len(),
        modified: (of.mtime(), of.mtime_nsec()),
        changed: (of.ctime(), of.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(file: &Path) -> Reloading<u32> {
        let path = file.to_owned();
        Reloading::new("numbers", vec![path.clone()], move || Ok(std::fs::read_to_string(&path)?.trim().parse()?))
            .unwrap()
    }

    #[test]
    fn it_follows_its_file_and_keeps_what_could_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        std::fs::write(&file, "1").unwrap();
        let number = number(&file);
        let start = Instant::now();
        let at = |seconds| *number.get_at(start + Duration::from_secs(seconds));
        assert_eq!(at(0), 1);

        std::fs::write(&file, "22").unwrap();
        assert_eq!(at(0), 1, "looked at a second time within the second");
        assert_eq!(at(2), 22);

        std::fs::write(&file, "no number").unwrap();
        assert_eq!(at(4), 22);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(at(6), 22);
        std::fs::write(&file, "3").unwrap();
        assert_eq!(at(8), 3);
    }

    /// As Kubernetes replaces a secret: the name leads to another file of the same length and time.
    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("number"), |name: &str| folder.path().join(name));
        for (name, text) in [("old", "1"), ("new", "2")] {
            std::fs::write(target(name), text).unwrap();
        }
        std::os::unix::fs::symlink(target("old"), &link).unwrap();
        let number = number(&link);
        std::os::unix::fs::symlink(target("new"), target("next")).unwrap();
        std::fs::rename(target("next"), &link).unwrap();
        assert_eq!(*number.get_at(Instant::now() + LOOKS), 2);
    }

    #[test]
    fn what_is_read_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        std::fs::write(&file, "4711").unwrap();
        assert!(!format!("{:?}", number(&file)).contains("4711"));
    }
}
