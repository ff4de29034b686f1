//! Picture files: 8-bit RGB becomes PNG, JPEG or WebP on a blocking thread.

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use tokio::task::spawn_blocking;

use crate::job::Format;

/// The chunk's keyword that this field's viewers look for.
const KEYWORD: &str = "parameters";
const JPEG_QUALITY: u8 = 95;

/// Row-major RGB whose length has been checked: 3 · width · height bytes.
#[derive(Debug, Clone)]
pub(crate) struct Rgb {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) data: Bytes,
}

/// A picture that no encoder takes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("cannot write the PNG: {0}")]
    Png(#[from] png::EncodingError),
    #[error("cannot write the picture: {0}")]
    Image(#[from] image::ImageError),
    #[error("the picture's encoder did not finish: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }
}

/// What a picture is kept as where it was not to be made anew.
#[derive(Debug, Clone)]
pub(crate) struct Original {
    /// Of the picture's size.
    pub(crate) rgb: Rgb,
    /// A byte a pixel: 0 is the original, 255 the new picture.
    pub(crate) mask: Bytes,
}

impl Original {
    /// Lays the new picture over it.
    fn under(&self, new: &Rgb) -> Rgb {
        let pixels = new.data.chunks_exact(3).zip(self.rgb.data.chunks_exact(3)).zip(&self.mask);
        let mix = |(new, old): (&u8, &u8), mask: u32| {
            ((u32::from(*new) * mask + u32::from(*old) * (255 - mask) + 127) / 255) as u8
        };
        let data = pixels.flat_map(|((new, old), mask)| new.iter().zip(old).map(|pair| mix(pair, (*mask).into())));
        Rgb { data: data.collect(), ..*new }
    }
}

/// The file's bytes, over the `original` if only a part of it was made anew. A PNG carries `parameters` in a text chunk.
///
/// # Errors
/// When the encoder refuses the picture or its thread was ended.
pub(crate) async fn encode(
    picture: Rgb,
    original: Option<Original>,
    format: Format,
    parameters: String,
) -> Result<Bytes, PictureError> {
    let encoded = spawn_blocking(move || {
        let picture = match original {
            Some(original) => original.under(&picture),
            None => picture,
        };
        match format {
            Format::Png => png(&picture, Some(&parameters)),
            Format::Jpeg => jpeg(&picture),
            Format::Webp => webp(&picture),
        }
    });
    Ok(encoded.await??.into())
}

/// A preview as PNG, without any text.
///
/// # Errors
/// As [`encode`].
pub(crate) async fn preview(picture: Rgb) -> Result<Bytes, PictureError> {
    Ok(spawn_blocking(move || png(&picture, None)).await??.into())
}

pub(crate) fn png(picture: &Rgb, parameters: Option<&str>) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(text) = parameters {
        // tEXt holds Latin-1 without control characters but the line feed (PNG specification, section 11.3.3.2); iTXt holds UTF-8.
        let latin = |letter: char| u32::from(letter) < 256 && (letter == '\n' || !letter.is_control());
        if text.chars().all(latin) {
            encoder.add_text_chunk(KEYWORD.to_owned(), text.to_owned())?;
        } else {
            encoder.add_itxt_chunk(KEYWORD.to_owned(), text.to_owned())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.data)?;
    writer.finish()?;
    Ok(file)
}

fn jpeg(picture: &Rgb) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
    encoder.write_image(&picture.data, picture.width, picture.height, ExtendedColorType::Rgb8)?;
    Ok(file)
}

fn webp(picture: &Rgb) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut file);
    encoder.write_image(&picture.data, picture.width, picture.height, ExtendedColorType::Rgb8)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn gradient() -> Rgb {
        let pixels = (0..64u32 * 48).flat_map(|i| [(i % 64 * 4) as u8, (i / 64 * 5) as u8, 128]);
        Rgb { width: 64, height: 48, data: pixels.collect() }
    }

    async fn decoded(format: Format) -> (Bytes, image::RgbImage) {
        let file = encode(gradient(), None, format, "a — b".into()).await.unwrap();
        let picture = image::load_from_memory(&file).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (64, 48));
        (file, picture)
    }

    #[tokio::test]
    async fn lossless_formats_keep_every_pixel() {
        for format in [Format::Png, Format::Webp] {
            let (_, picture) = decoded(format).await;
            assert_eq!(picture.as_raw()[..], gradient().data[..], "{format:?}");
        }
    }

    #[tokio::test]
    async fn what_was_not_made_anew_is_as_it_was() {
        let rgb = Rgb { data: vec![200; 64 * 48 * 3].into(), ..gradient() };
        let mask = (0..64 * 48).map(|i| [0, 255, 51][i % 3]).collect();
        let original = Some(Original { rgb, mask });
        let file = encode(gradient(), original, Format::Png, String::new()).await.unwrap();
        let picture = image::load_from_memory(&file).unwrap().to_rgb8();
        for ((found, new), part) in picture.as_raw().chunks(3).zip(gradient().data.chunks(3)).zip((0..3).cycle()) {
            let mixed: Vec<u8> = new.iter().map(|new| (f64::from(*new) * 0.2 + 160.0).round() as u8).collect();
            assert_eq!(found, [&[200; 3], new, &mixed[..]][part]);
        }
    }

    #[tokio::test]
    async fn jpeg_stays_close() {
        let (file, picture) = decoded(Format::Jpeg).await;
        assert_eq!(file[..2], [0xff, 0xd8]);
        let worst = picture.as_raw().iter().zip(&gradient().data).map(|(&a, &b)| a.abs_diff(b)).max();
        assert!(worst.unwrap() <= 12, "{worst:?}");
    }

    #[tokio::test]
    async fn parameters_stand_in_the_chunk_that_can_hold_them() {
        for (text, latin) in [("prompt\nSteps: 4, é", true), ("猫, a cat", false)] {
            let file = encode(gradient(), None, Format::Png, text.into()).await.unwrap();
            let reader = png::Decoder::new(Cursor::new(&file)).read_info().unwrap();
            let info = reader.info();
            if latin {
                assert_eq!(info.uncompressed_latin1_text[0].keyword, KEYWORD);
                assert_eq!(info.uncompressed_latin1_text[0].text, text);
            } else {
                assert_eq!(info.utf8_text[0].keyword, KEYWORD);
                assert_eq!(info.utf8_text[0].get_text().unwrap(), text);
            }
        }
        let small = preview(gradient()).await.unwrap();
        assert!(png::Decoder::new(Cursor::new(&small)).read_info().unwrap().info().utf8_text.is_empty());
    }
}
