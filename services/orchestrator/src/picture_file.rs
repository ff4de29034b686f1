//! Picture files that clients send: what they may take is known from their heads, before a pixel is decoded.
//!
//! A picture comes out as the reference's scripts would see it: 8-bit RGB. What those leave to chance is settled here: it is turned as its
//! EXIF orientation says, 16 bits are rounded to 8, and transparent parts are laid on white, in a mask on black.

use std::io::Cursor;

use bytes::Bytes;
use darkroom_resample::{Axis, Kernel, resample};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::picture::Rgb;
use crate::validate::Refusal;

/// Pixels of a side.
const MOST_SIDE: u32 = 8192;
/// Of the decoded picture, as its file keeps it.
const MOST_BYTES: u64 = 256 << 20;

/// A file whose head was read and is in bounds.
pub(crate) struct PictureFile {
    /// The request's field, for refusals.
    field: &'static str,
    bytes: Bytes,
    size: [u32; 2],
}

impl PictureFile {
    /// Reads the head.
    ///
    /// # Errors
    /// What is wrong with the file, or too large about the picture.
    pub(crate) fn open(field: &'static str, bytes: Bytes) -> Result<Self, Refusal> {
        let mut file = Self { field, bytes, size: [0, 0] };
        let mut decoder = file.decoder()?;
        let (width, height) = decoder.dimensions();
        let refuse = |message| Err(Refusal { field, message });
        if width.max(height) > MOST_SIDE {
            return refuse(format!("is {width}x{height} pixels, at most {MOST_SIDE} a side are allowed"));
        }
        if decoder.total_bytes() > MOST_BYTES {
            let (mib, most) = (decoder.total_bytes() >> 20, MOST_BYTES >> 20);
            return refuse(format!("is {width}x{height} pixels that take {mib} MiB, at most {most} MiB are allowed"));
        }
        let turned = turned(decoder.orientation().unwrap_or(Orientation::NoTransforms));
        drop(decoder);
        file.size = if turned { [height, width] } else { [width, height] };
        Ok(file)
    }

    /// Width and height, as it is looked at.
    pub(crate) fn size(&self) -> [u32; 2] {
        self.size
    }

    /// The picture at `width` × `height`.
    ///
    /// # Errors
    /// When the file is broken behind its head.
    pub(crate) fn rgb(&self, [width, height]: [u32; 2]) -> Result<Rgb, Refusal> {
        let pixels = self.decode(255)?;
        Ok(Rgb { width, height, data: self.scaled::<3>(&pixels, [width, height]) })
    }

    /// How bright it is at `width` × `height`, a byte a pixel, as Pillow converts to "L": ITU-R 601-2.
    ///
    /// # Errors
    /// As [`PictureFile::rgb`].
    pub(crate) fn grey(&self, size: [u32; 2]) -> Result<Bytes, Refusal> {
        let luma = |[r, g, b]: [u8; 3]| {
            let sum = u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471;
            ((sum + 0x8000) >> 16) as u8
        };
        let mut pixels = self.decode(0)?;
        shrink(&mut pixels, |[r, g, b]: [u8; 3]| [luma([r, g, b])]);
        Ok(self.scaled::<1>(&pixels, size))
    }

    fn decoder(&self) -> Result<impl ImageDecoder + '_, Refusal> {
        let mut limits = Limits::default();
        limits.max_alloc = Some(MOST_BYTES);
        let mut reader = ImageReader::new(Cursor::new(&self.bytes))
            .with_guessed_format()
            .map_err(|error| self.broken(&error.into()))?;
        if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) {
            let message = "is no picture that is known here, send a PNG, JPEG or WebP file".to_owned();
            return Err(Refusal { field: self.field, message });
        }
        reader.limits(limits);
        reader.into_decoder().map_err(|error| self.broken(&error))
    }

    /// RGB at its own size, laid on a `ground`.
    fn decode(&self, ground: u8) -> Result<Vec<u8>, Refusal> {
        let mut decoder = self.decoder()?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(|error| self.broken(&error))?;
        decoded.apply_orientation(orientation);
        if !decoded.color().has_alpha() {
            return Ok(decoded.into_rgb8().into_raw());
        }
        let mut pixels = decoded.into_rgba8().into_raw();
        shrink(&mut pixels, |pixel: [u8; 4]| on(ground, pixel));
        Ok(pixels)
    }

    /// Brings `pixels` of this picture's size to another.
    fn scaled<const COLOURS: usize>(&self, pixels: &[u8], to: [u32; 2]) -> Bytes {
        let [columns, rows] = [0, 1].map(|side| Axis::whole(self.size[side] as usize, to[side] as usize));
        resample::<COLOURS>(Kernel::Lanczos, pixels, &rows, &columns).into()
    }

    fn broken(&self, error: &ImageError) -> Refusal {
        Refusal { field: self.field, message: format!("cannot be read as a picture: {error}") }
    }
}

/// Whether an orientation swaps width and height.
fn turned(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Makes pixels of `FROM` bytes ones of `TO`, fewer, where they stand: pictures are large.
fn shrink<const FROM: usize, const TO: usize>(data: &mut Vec<u8>, each: impl Fn([u8; FROM]) -> [u8; TO]) {
    let pixels = data.len() / FROM;
    for pixel in 0..pixels {
        let mut from = [0; FROM];
        from.copy_from_slice(&data[pixel * FROM..][..FROM]);
        data[pixel * TO..][..TO].copy_from_slice(&each(from));
    }
    data.truncate(pixels * TO);
}

/// A pixel laid on a `ground`.
fn on(ground: u8, [r, g, b, a]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(a);
    [r, g, b].map(|colour| ((u32::from(colour) * alpha + u32::from(ground) * (255 - alpha) + 127) / 255) as u8)
}

#[cfg(test)]
mod tests;
