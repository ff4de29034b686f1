//! The bounds of what a checkpoint may make us read or keep. Real ones stay far below each.

/// Bytes of the pickle; those of Stable Diffusion's full checkpoints have about half a megabyte.
pub(super) const PICKLE_BYTES: u64 = 64 << 20;
/// Objects that a pickle may make (containers, tensors, globals) and values it may hold at once.
pub(super) const OBJECTS: usize = 1 << 21;
/// Values that all of its containers may hold together.
pub(super) const CELLS: usize = 1 << 22;
/// Dimensions of a tensor.
pub(super) const DIMENSIONS: usize = 8;
/// Entries of the archive.
pub(super) const ENTRIES: usize = 1 << 18;

/// Bytes that a file of `len` bytes may inflate to, or that its tensors may claim together.
///
/// Trained weights hardly compress and are hardly shared: four times the file is generous, and a small file may still
/// be made of zeros.
pub(super) fn expansion(len: usize) -> u64 {
    (len as u64).saturating_mul(4).saturating_add(16 << 20)
}
