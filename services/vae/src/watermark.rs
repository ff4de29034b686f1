//! The reference's invisible watermark: a text in the low frequencies of a picture's colours, where JPEG leaves it.
//!
//! CompVis' `scripts/txt2img.py` signs every picture with the package invisible-watermark, method `dwtDct`. In its release
//! 0.2.0 (`imwatermark/maxDct.py`) that is: to YUV; the Haar wavelet of U; in every 4×4 block of its low band the largest
//! coefficient but the first is moved to a quarter or three quarters of a step of 36, which is one bit; and back. The name's DCT
//! is not taken. [`embed`] gives that package's own pixels on x86-64, every one of them, its habits included: the wavelet's
//! horizontal and vertical details change places on the way back, which mirrors each 2×2 cell of U.
//!
//! - [`yuv`] is OpenCV's conversion, [`haar`] the wavelet, [`bits`] where a bit lies and what is read there.
//! - Pure functions over RGB bytes: the same pixels give the same pixels, on any number of threads.

mod bits;
mod haar;
mod yuv;

use bits::Tally;
use haar::Block;

/// What Darkroom's pictures say, as the reference's do.
pub const TEXT: &[u8] = b"StableDiffusionV1";

/// Pixels below which the method takes no picture: 256 · 256, the package's own limit.
pub const MIN_PIXELS: usize = 256 * 256;

/// Whether a picture is large enough.
#[must_use]
pub fn fits(width: usize, height: usize) -> bool {
    width.saturating_mul(height) >= MIN_PIXELS
}

/// Writes `text` into `rgb`, row-major `[height, width, 3]`. Says whether it has: a picture that is too small stays as it is, and so
/// does one whose length does not fit its sides, or for an empty text.
pub fn embed(rgb: &mut [u8], width: usize, height: usize, text: &[u8]) -> bool {
    if !fits(width, height) || !has_size(rgb, width, height) || text.is_empty() {
        return false;
    }
    rgb.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = yuv::from_rgb(*pixel));
    for (place, number) in blocks(width, height) {
        let mut block = Block::read(rgb, width, place);
        if let Some(number) = number {
            bits::write(block.low_mut(), bits::of(text, number));
        }
        block.write(rgb, width, place);
    }
    rgb.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = yuv::to_rgb(*pixel));
    true
}

/// Reads a text of `length` bytes out of a picture, as the package's decoder does: each bit is what most of its blocks say. `None` for a
/// picture that is too small, or whose length does not fit its sides. A picture without a watermark gives some bytes, too.
#[must_use]
pub fn extract(rgb: &[u8], width: usize, height: usize, length: usize) -> Option<Vec<u8>> {
    if !fits(width, height) || !has_size(rgb, width, height) || length == 0 {
        return None;
    }
    let converted: Vec<u8> = rgb.as_chunks().0.iter().flat_map(|pixel| yuv::from_rgb(*pixel)).collect();
    let mut tally = Tally::new(length);
    for (place, number) in blocks(width, height) {
        if let Some(number) = number {
            tally.add(number, bits::read(Block::read(&converted, width, place).low()));
        }
    }
    Some(tally.text())
}

fn has_size(rgb: &[u8], width: usize, height: usize) -> bool {
    width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3)) == Some(rgb.len())
}

/// The picture in blocks of 8×8 pixels, row by row, each with its number where it holds a bit. Sides are cut to multiples of four; a
/// narrower block at the right or lower edge goes through the wavelet and holds none.
fn blocks(width: usize, height: usize) -> impl Iterator<Item = (haar::Place, Option<usize>)> {
    const SIDE: usize = haar::CELLS * 2;
    let (columns, rows) = (width / 4 * 4, height / 4 * 4);
    let whole = columns / SIDE;
    (0..rows).step_by(SIDE).flat_map(move |y| {
        (0..columns).step_by(SIDE).map(move |x| {
            let place = haar::Place { x, y, columns: (columns - x).min(SIDE) / 2, rows: (rows - y).min(SIDE) / 2 };
            let holds = place.columns == haar::CELLS && place.rows == haar::CELLS;
            (place, holds.then_some(y / SIDE * whole + x / SIDE))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Vec<u8> {
        // Slow and away from the edges of the range, where pixels are clamped and bits with them.
        let wave = |t: usize| 64 + ((t % 510).abs_diff(255) / 2) as u8;
        (0..width * height)
            .flat_map(|i| {
                let (y, x) = (i / width, i % width);
                [wave((2 * x + y) / 16), wave((x + 3 * y) / 16), wave((x + y) / 8)]
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for (width, height) in [(256, 256), (512, 264), (301, 259), (64, 2048)] {
            let mut rgb = picture(width, height);
            let plain = rgb.clone();
            assert!(embed(&mut rgb, width, height, TEXT));
            assert_eq!(extract(&rgb, width, height, TEXT.len()).unwrap(), TEXT, "{width}x{height}");
            assert_ne!(extract(&plain, width, height, TEXT.len()).unwrap(), TEXT);
            let worst = rgb.iter().zip(&plain).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= 40, "a channel moved by {worst} levels");
        }
    }

    #[test]
    fn a_small_picture_and_a_wrong_length_stay_as_they_are() {
        for (width, height, bytes) in [(256, 255, 256 * 255 * 3), (256, 256, 5), (usize::MAX, 2, 6), (0, 0, 0)] {
            let mut rgb = vec![7; bytes];
            assert!(!embed(&mut rgb, width, height, TEXT));
            assert!(rgb.iter().all(|byte| *byte == 7));
            assert_eq!(extract(&rgb, width, height, 17), None);
        }
    }

    #[test]
    fn a_side_too_narrow_for_any_block_is_no_trouble() {
        for (width, height) in [(1, 65_536), (65_536, 3), (4, 16_384), (7, 10_000)] {
            let mut rgb = vec![200; width * height * 3];
            assert!(embed(&mut rgb, width, height, TEXT));
            assert_eq!(extract(&rgb, width, height, 2).unwrap(), [0, 0]);
        }
    }
}
