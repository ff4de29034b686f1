//! The pocket model's autoencoder in bands against the undivided one, on both backends.

use super::*;
use crate::compute::{ComputeOptions, Device, Precision, Scope, candle::Candle, cpu::Cpu};
use crate::source::ModelSource;
use crate::vae::Vae;

/// Bytes of a band: four rows a band on every level, a few bands a picture, and one.
const BYTES: [usize; 3] = [0, 60_000, usize::MAX];
/// Latents: a row, a column, odd sizes, and sizes that no band divides.
const SIZES: [(usize, usize); 5] = [(1, 9), (7, 1), (5, 3), (9, 6), (6, 11)];

fn options(precision: Precision) -> ComputeOptions {
    ComputeOptions { device: Device::Cpu, precision, threads: None }
}

fn division(band_bytes: usize) -> Division {
    Division { band_bytes, ..Division::default() }
}

fn latents((height, width): (usize, usize)) -> Vec<f32> {
    (0..4 * height * width).map(|i| 2.0 * (i as f32 * 0.7).sin()).collect()
}

fn load<B: Backend>(backend: &B) -> Vae<B> {
    let (config, weights) = ModelSource::resolve(None, Default::default()).unwrap().vae().unwrap();
    Vae::load(&Scope::root(backend, &weights), &config).unwrap()
}

/// Decodes and encodes undivided and in bands, and hands what came out to `compare`.
fn check<B: Backend>(backend: &B, compare: impl Fn(&[f32], &[f32])) {
    let vae = load(backend);
    for (height, width) in SIZES {
        let z = backend.upload_image(&latents((height, width)), [1, 4, height, width]).unwrap();
        let picture = vae.decode(backend, &z).unwrap();
        let moments = backend.download(&vae.encode(backend, &picture).unwrap()).unwrap();
        let pixels = backend.download(&picture).unwrap();
        for bytes in BYTES {
            let mut bands = Vec::new();
            let put = |rows: Range<usize>, band| {
                bands.push((rows, band));
                Ok(())
            };
            vae.decode_in_bands(backend, &z, division(bytes), put).unwrap();
            assert!(bytes > 0 || bands.len() == 2 * height, "four rows a band, eight a latent");
            let ends: Vec<usize> = bands.iter().map(|(rows, _)| rows.end).collect();
            assert!(bands.iter().skip(1).map(|(rows, _)| rows.start).eq(ends[..ends.len() - 1].iter().copied()));
            let found = backend.stack_rows(&bands.iter().map(|(_, band)| band).collect::<Vec<_>>()).unwrap();
            compare(&backend.download(&found).unwrap(), &pixels);

            let rows_of = |rows: Range<usize>| backend.rows(&picture, rows);
            let found = vae.encode_in_bands(backend, (8 * height, 8 * width), division(bytes), rows_of).unwrap();
            compare(&backend.download(&found).unwrap(), &moments);
        }
    }
}

#[test]
fn bands_change_no_bit_on_a_cpu() {
    for precision in [Precision::F32, Precision::Bf16] {
        check(&Cpu::open(&options(precision)).unwrap(), |found, expected| assert!(found == expected));
    }
}

#[test]
fn bands_change_last_digits_elsewhere() {
    check(&Candle::open(&options(Precision::F32)).unwrap(), |found, expected| {
        assert_eq!(found.len(), expected.len());
        let furthest = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
        assert!(furthest <= 1e-4, "{furthest}");
    });
}

#[test]
fn bands_are_as_high_as_their_memory_allows() {
    let size = Size { height: 100, width: 16 };
    // A row of 16 pixels with 8 channels is 512 bytes.
    let heights = |bytes| division(bytes).bands(size, 8).map(|rows| rows.len()).collect::<Vec<_>>();
    assert_eq!(heights(0), [4; 25]);
    assert_eq!(heights(47 * 512), [44, 44, 12]);
    assert_eq!(heights(usize::MAX), [100]);
}

#[test]
fn pictures_over_the_bound_are_divided() {
    let division = Division { undivided_pixels: 64, ..Division::default() };
    assert!(!division.divides(8, 8) && division.divides(8, 9) && division.divides(usize::MAX, 2));
}
