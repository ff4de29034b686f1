//! Bytes that weights are read from in place: a mapped file, the program itself, or an inflated archive entry.

use std::fs::{self, File};
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::error::LoadError;

/// Shared, immutable bytes, and the name of the file they are from.
#[derive(Clone)]
pub(crate) struct Blob {
    file: Arc<str>,
    bytes: Bytes,
}

#[derive(Clone)]
enum Bytes {
    Mapped(Arc<Mmap>),
    Embedded(&'static [u8]),
    Owned(Arc<[u8]>),
}

impl Blob {
    /// Maps a file.
    pub(crate) fn map(path: &Path) -> Result<Self, LoadError> {
        let name = path.display().to_string();
        let read = |source: io::Error| LoadError::Read { file: name.clone(), source };
        // Looked at before it is opened: to open a pipe would be to wait for whoever writes to it.
        let metadata = fs::metadata(path).map_err(read)?;
        if !metadata.is_file() {
            return Err(LoadError::malformed(&name, "not a regular file"));
        }
        if metadata.len() == 0 {
            // An empty file cannot be mapped.
            return Ok(Self { file: name.into(), bytes: Bytes::Embedded(&[]) });
        }
        let file = File::open(path).map_err(read)?;
        // SAFETY: the map is read-only and private to us. As with every mapped file, another process that truncates or
        // rewrites it while it is in use would be seen here; models are files that nobody edits in place.
        #[allow(unsafe_code)]
        let mapped = unsafe { Mmap::map(&file) }.map_err(read)?;
        Ok(Self { file: name.into(), bytes: Bytes::Mapped(Arc::new(mapped)) })
    }

    /// Bytes that are a part of the program.
    pub(crate) fn embedded(file: &str, bytes: &'static [u8]) -> Self {
        Self { file: file.into(), bytes: Bytes::Embedded(bytes) }
    }

    /// Bytes made from this blob's, such as an inflated entry: they keep its file's name.
    pub(crate) fn derived(&self, bytes: Vec<u8>) -> Self {
        Self { file: self.file.clone(), bytes: Bytes::Owned(bytes.into()) }
    }

    /// Lets the system have the memory of a range of a mapped file back; the range is read again when it is used again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let len = range.len().min(map.len().saturating_sub(range.start));
            // SAFETY: the map is read-only and nothing of it was ever written, so pages that are dropped come back from the
            // file as they were, at the next access. Others who read the range meanwhile see the same bytes.
            #[allow(unsafe_code)]
            let dropped = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, len) };
            if let Err(error) = dropped {
                tracing::debug!(file = %self.file, %error, "the memory of weights that were read is not given back");
            }
        }
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
