//! The archive that `torch.save` writes, around any pickle.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Bytes of each storage of [`archive`].
pub const STORAGE_BYTES: usize = 3 * 256;

/// Keys of the storages of [`archive`].
pub const KEYS: [&str; 3] = ["0", "1", "2"];

/// The archive of a pickle and three storages.
///
/// # Errors
/// Only when the zip writer fails, which writes to memory.
pub fn archive(pickle: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", options)?;
    zip.write_all(pickle)?;
    for (index, key) in KEYS.iter().enumerate() {
        zip.start_file(format!("archive/data/{key}"), options)?;
        zip.write_all(&[index as u8 + 1; STORAGE_BYTES])?;
    }
    Ok(zip.finish()?.into_inner())
}
