//! The zip archive that `torch.save` writes: entries that are stored plainly are read in place, others within a bound.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::limits;
use super::objects::{Heap, Tensor};
use crate::error::LoadError;
use crate::weights::{Blob, Stored};

pub(super) struct Archive<'a> {
    blob: &'a Blob,
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// What comes before `data.pkl` in its name, and before `data/KEY` in the storages'.
    root: String,
    /// Storages found so far, by key.
    found: HashMap<String, Place>,
    /// Bytes that have been inflated so far.
    inflated: u64,
}

/// An entry's bytes: a range of a blob.
#[derive(Clone)]
struct Place {
    blob: Blob,
    start: usize,
    len: usize,
}

impl<'a> Archive<'a> {
    pub(super) fn open(blob: &'a Blob) -> Result<Self, LoadError> {
        let malformed = |what: String| LoadError::malformed(blob.file(), what);
        let zip = ZipArchive::new(Cursor::new(&blob[..]))
            .map_err(|error| malformed(format!("not a whole zip archive ({error}); it may have been cut short")))?;
        if zip.len() > limits::ENTRIES {
            return Err(malformed(format!(
                "an archive of {} entries; at most {} are read",
                zip.len(),
                limits::ENTRIES
            )));
        }
        let root = zip.file_names().filter_map(Result::ok).find_map(|name| {
            let root = name.strip_suffix("data.pkl")?;
            (root.is_empty() || root.ends_with('/')).then(|| root.to_owned())
        });
        let root =
            root.ok_or_else(|| malformed("a zip archive without data.pkl; torch.save did not write it".into()))?;
        let mut archive = Self { blob, zip, root, found: HashMap::new(), inflated: 0 };
        archive.check_byte_order()?;
        Ok(archive)
    }

    pub(super) fn pickle_name(&self) -> String {
        format!("{}data.pkl", self.root)
    }

    /// The pickle's bytes.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, LoadError> {
        let place = self.place(&self.pickle_name(), limits::PICKLE_BYTES)?;
        Ok(place.blob[place.start..place.start + place.len].to_vec())
    }

    /// A tensor, checked to lie within its storage, and that within its entry.
    pub(super) fn tensor(&mut self, heap: &Heap<'_>, tensor: Option<&Tensor>, name: &str) -> Result<Stored, LoadError> {
        let file = self.blob.file().to_owned();
        let malformed = |what: String| LoadError::malformed(&file, format!("tensor {name}: {what}"));
        let tensor = tensor.ok_or_else(|| malformed("it was never made".into()))?;
        let (key, dtype) = (heap.text(tensor.storage.key), tensor.storage.dtype);
        let place = self.storage(key)?;
        let claimed = tensor.storage.count.checked_mul(dtype.size()).filter(|bytes| *bytes <= place.len);
        let claimed = claimed.ok_or_else(|| {
            let count = tensor.storage.count;
            malformed(format!("storage {key} claims {count} elements of {dtype}, its entry has {} bytes", place.len))
        })?;
        let (shape, strides) = (tensor.shape.clone(), tensor.strides.clone());
        Stored::strided(place.blob, dtype, (place.start, claimed), tensor.offset, shape, strides).map_err(malformed)
    }

    fn storage(&mut self, key: &str) -> Result<Place, LoadError> {
        if let Some(place) = self.found.get(key) {
            return Ok(place.clone());
        }
        let place = self.place(&format!("{}data/{key}", self.root), u64::MAX)?;
        self.found.insert(key.to_owned(), place.clone());
        Ok(place)
    }

    /// Finds an entry's bytes, inflating them where they are compressed.
    fn place(&mut self, name: &str, limit: u64) -> Result<Place, LoadError> {
        let file = self.blob.file();
        let malformed = |what: String| LoadError::malformed(file, format!("entry {name}: {what}"));
        let index = self.zip.index_for_name(name).ok_or_else(|| malformed("it is missing".into()))?;
        let entry = self.zip.by_index_raw(index).map_err(|error| malformed(error.to_string()))?;
        if entry.size() > limit {
            return Err(malformed(format!("{} bytes; at most {limit} are read", entry.size())));
        }
        if entry.encrypted() {
            return Err(malformed("it is encrypted".into()));
        }
        if entry.compression() == CompressionMethod::Stored {
            let range = entry.data_start().and_then(|start| {
                let (start, len) = (usize::try_from(start).ok()?, usize::try_from(entry.size()).ok()?);
                let inside = start.checked_add(len)? <= self.blob.len() && entry.compressed_size() == entry.size();
                inside.then_some((start, len))
            });
            let (start, len) = range.ok_or_else(|| malformed("its bytes lie outside of the file".into()))?;
            return Ok(Place { blob: self.blob.clone(), start, len });
        }
        drop(entry);
        self.inflate(index, name, limit)
    }

    fn inflate(&mut self, index: usize, name: &str, limit: u64) -> Result<Place, LoadError> {
        let file = self.blob.file();
        let malformed = |what: String| LoadError::malformed(file, format!("entry {name}: {what}"));
        let limit = limit.min(limits::expansion(self.blob.len()).saturating_sub(self.inflated));
        let entry = self.zip.by_index(index).map_err(|error| malformed(error.to_string()))?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells an entry that is too large from one that just fits.
        entry.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| malformed(error.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(malformed("it inflates to more than weights would; it is not a checkpoint".into()));
        }
        self.inflated += bytes.len() as u64;
        let len = bytes.len();
        Ok(Place { blob: self.blob.derived(bytes), start: 0, len })
    }

    fn check_byte_order(&mut self) -> Result<(), LoadError> {
        let name = format!("{}byteorder", self.root);
        if self.zip.index_for_name(&name).is_none() {
            // Written by torch before 2.1, always little-endian.
            return Ok(());
        }
        let place = self.place(&name, 16)?;
        match &place.blob[place.start..place.start + place.len] {
            b"little" => Ok(()),
            _ => Err(LoadError::unsupported(self.blob.file(), "its byte order is not little-endian")),
        }
    }
}
