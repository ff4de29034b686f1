//! Picture files of every kind, whole and broken.

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat, Luma, RgbImage, Rgba, RgbaImage};

use super::*;

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { [255, 0, 0].into() } else { [0, 0, 255].into() })
}

fn file(picture: impl Into<DynamicImage>, format: ImageFormat) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner().into()
}

fn rgb(bytes: Bytes, size: [u32; 2]) -> Result<Rgb, String> {
    let open = PictureFile::open("init_image", bytes).and_then(|file| file.rgb(size));
    open.map_err(|refusal| refusal.to_string())
}

/// An EXIF block that says how to turn the picture, in front of a JPEG's other segments.
fn oriented(jpeg: &[u8], orientation: u8) -> Bytes {
    let tiff =
        [&b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation, 0, 0, 0], &[0; 4]].concat();
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat().into()
}

#[test]
fn every_format_is_read_at_its_own_size() {
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let picture = rgb(file(halves(64, 48), format), [64, 48]).unwrap();
        assert_eq!(picture.data[..], halves(64, 48).as_raw()[..], "{format:?}");
    }
    let picture = rgb(file(halves(64, 48), ImageFormat::Jpeg), [64, 48]).unwrap();
    assert!(picture.data[0] > 240 && picture.data[2] < 16 && picture.data[3 * 63 + 2] > 240);
}

#[test]
fn a_picture_is_turned_as_its_camera_says() {
    let jpeg = file(halves(64, 48), ImageFormat::Jpeg);
    for (orientation, size, red_first) in
        [(1, [64, 48], true), (3, [64, 48], false), (6, [48, 64], true), (8, [48, 64], false)]
    {
        let opened = PictureFile::open("init_image", oriented(&jpeg, orientation)).unwrap();
        assert_eq!(opened.size(), size, "{orientation}");
        let data = opened.rgb(size).unwrap().data;
        assert_eq!(data[0] > 128, red_first, "{orientation}");
    }
}

#[test]
fn transparent_parts_are_white_and_in_a_mask_black() {
    let clear = RgbaImage::from_fn(64, 64, |x, _| Rgba([255, 0, 0, if x < 32 { 0 } else { 128 }]));
    let bytes = file(clear, ImageFormat::Png);
    let picture = rgb(bytes.clone(), [64, 64]).unwrap();
    assert_eq!(picture.data[..3], [255, 255, 255]);
    assert_eq!(picture.data[3 * 63..3 * 64], [255, 127, 127]);
    let mask = PictureFile::open("mask_image", bytes).unwrap().grey([64, 64]).unwrap();
    // Half of red's 76.
    assert_eq!((mask.len(), mask[0], mask[63]), (64 * 64, 0, 38));
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(64, 64, |x, _| Luma([x as u16 * 1000]));
    let picture = rgb(file(deep, ImageFormat::Png), [64, 64]).unwrap();
    let expected: Vec<u8> = (0..64).map(|x| (f64::from(x * 1000) / 257.0).round() as u8).collect();
    let found: Vec<u8> = picture.data.chunks_exact(3).take(64).map(|pixel| pixel[1]).collect();
    assert_eq!(found, expected);
}

#[test]
fn broken_files_and_others_are_refused_by_name() {
    let png = file(halves(64, 48), ImageFormat::Png);
    let jpeg = file(halves(64, 48), ImageFormat::Jpeg);
    for whole in [&png, &jpeg] {
        for end in [10, 30, whole.len() / 2] {
            let error = rgb(whole.slice(..end), [64, 48]);
            assert!(
                error.as_ref().is_err_and(|error| error.starts_with("init_image: cannot be read")),
                "{end}: {error:?}"
            );
        }
    }
    for bytes in [&b"GIF89a"[..], b"", b"hello", b"BM"] {
        let error = rgb(Bytes::from_static(bytes), [64, 48]).unwrap_err();
        assert_eq!(error, "init_image: is no picture that is known here, send a PNG, JPEG or WebP file");
    }
}

/// The head of a PNG that promises more than it holds.
fn bomb(width: u32, height: u32, colour: ExtendedColorType) -> Bytes {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&vec![0; 64 * 64 * 8][..64 * 64 * usize::from(colour.bits_per_pixel()) / 8], 64, 64, colour)
        .unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes.into()
}

/// PNG specification, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn bombs_are_refused_by_their_heads() {
    let error = rgb(bomb(65_535, 65_535, ExtendedColorType::Rgb8), [64, 64]).unwrap_err();
    assert_eq!(error, "init_image: is 65535x65535 pixels, at most 8192 a side are allowed");
    let error = rgb(bomb(8192, 8192, ExtendedColorType::Rgba16), [64, 64]).unwrap_err();
    assert_eq!(error, "init_image: is 8192x8192 pixels that take 512 MiB, at most 256 MiB are allowed");
    assert!(
        rgb(bomb(8192, 64, ExtendedColorType::Rgb8), [64, 64]).unwrap_err().starts_with("init_image: cannot be read")
    );
}
