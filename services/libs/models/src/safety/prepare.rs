//! From a picture's bytes to what the vision tower sees, as transformers' `CLIPImageProcessor` does it with PIL: the shorter side
//! resized, the middle cut out, colours scaled and normalised.

use darkroom_resample::{Axis, Kernel, resample};

use crate::config::PreprocessorConfig;

/// A picture `[height, width, 3]` → the square `[crop_size, crop_size, 3]` in its middle, resized: the bytes that PIL makes. Neither side
/// is 0, and `rgb` is as long as they say.
#[must_use]
pub fn cropped(config: &PreprocessorConfig, rgb: &[u8], height: usize, width: usize) -> Vec<u8> {
    let [rows, columns] = [height, width].map(|side| {
        let output = resized_side(side, height.min(width), config.shortest_edge);
        let first = (output - config.crop_size) / 2;
        Axis { input: side, output, wanted: first..first + config.crop_size }
    });
    resample::<3>(Kernel::Bicubic, rgb, &rows, &columns)
}

/// `[crop_size, crop_size, 3]` → `[3, crop_size, crop_size]`, as the tower takes it.
#[must_use]
pub fn normalised(config: &PreprocessorConfig, square: &[u8]) -> Vec<f32> {
    let scaled = |byte: u8| (f64::from(byte) * config.rescale_factor) as f32;
    let pixels = square.as_chunks::<3>().0;
    (0..3).flat_map(|c| pixels.iter().map(move |pixel| (scaled(pixel[c]) - config.mean[c]) / config.std[c])).collect()
}

/// What a side becomes when the shortest becomes `edge`; the longer one is cut to whole pixels.
fn resized_side(side: usize, shortest: usize, edge: usize) -> usize {
    if side == shortest { edge } else { ((edge * side) as f64 / shortest as f64) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_cut_to_whole_pixels() {
        assert_eq!([512, 768, 1000, 999].map(|side| resized_side(side, 512, 224)), [224, 336, 437, 437]);
    }

    #[test]
    fn colours_are_normalised_plane_by_plane() {
        let config =
            PreprocessorConfig { crop_size: 1, mean: [0.0, 0.5, 1.0], std: [1.0, 0.5, 0.5], ..Default::default() };
        assert_eq!(normalised(&config, &[255, 0, 255]), [1.0, -1.0, 0.0]);
    }

    #[test]
    fn a_plain_picture_stays_plain() {
        let rgb: Vec<u8> = (0..600 * 64).flat_map(|_| [9, 99, 199]).collect();
        let square = cropped(&PreprocessorConfig::default(), &rgb, 600, 64);
        assert!(square.len() == 224 * 224 * 3 && square.chunks(3).all(|pixel| pixel == [9, 99, 199]));
    }
}
