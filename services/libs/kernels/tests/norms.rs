//! Normalisations against the plain definition, on every instruction set of this CPU.
#![allow(missing_docs)]
mod reference;

use darkroom_kernels::{
    GroupNorm, Image, Isa, LayerNorm, Precision, group_norm, group_norm_rows, group_scales, layer_norm,
};
use proptest::prelude::*;
use reference::{Tensor, noise, on_threads, precision, sigmoid};

/// Mean and 1 / √(variance + eps).
fn moments(values: &[f64], eps: f64) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, 1.0 / (variance + eps).sqrt())
}

fn allowed(expected: f64, offset: f32, output: Precision) -> f64 {
    let rounding = if output == Precision::Bf16 { 1.0 / 256.0 } else { 4e-7 };
    rounding * expected.abs() + 4e-6 * (1.0 + f64::from(offset))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_group_norm_is_its_definition(
        batch in 1_usize..3, height in 1_usize..12, width in 2_usize..20, groups in 1_usize..6, size in 1_usize..20, split in 0_usize..20,
        silu: bool, offset in prop_oneof![Just(0.0_f32), Just(30.0)], (input, output) in (precision(), precision()), seed: u64,
    ) {
        let channels = groups * size;
        let pixels = batch * height * width;
        let values: Vec<f32> = noise(pixels * channels, seed).iter().map(|value| value + offset).collect();
        let whole = Tensor::new(values, input);
        let split = split.min(channels - 1);
        // Two images side by side whose channels are the whole's.
        let take = |first: usize, count: usize| {
            let rows = whole.long.chunks(channels).flat_map(|row| row[first..first + count].to_vec());
            Tensor::new(rows.collect(), input)
        };
        let (left, right) = (take(0, split), take(split, channels - split));
        let mut images = vec![Image::new(right.values(), [batch, height, width, channels - split])];
        if split > 0 {
            images.insert(0, Image::new(left.values(), [batch, height, width, split]));
        }
        let (weight, bias) = (noise(channels, seed ^ 1), noise(channels, seed ^ 2));
        let norm = GroupNorm { groups, eps: 1e-5, weight: &weight, bias: &bias, silu };
        for isa in Isa::available() {
            let mut out = Tensor::zeros(pixels * channels, output);
            group_norm(isa, &images, &norm, &mut out.matrix_mut(pixels, channels, channels));
            for picture in 0..batch {
                for group in 0..groups {
                    let at = |pixel: usize, c: usize| (picture * height * width + pixel) * channels + group * size + c;
                    let indices: Vec<usize> =
                        (0..height * width).flat_map(|pixel| (0..size).map(move |c| (pixel, c))).map(|(p, c)| at(p, c)).collect();
                    let members: Vec<f64> = indices.iter().map(|&i| f64::from(whole.get(i))).collect();
                    let (mean, inverse) = moments(&members, 1e-5);
                    for (&index, member) in indices.iter().zip(members) {
                        let channel = index % channels;
                        let mut expected = (member - mean) * inverse * f64::from(weight[channel]) + f64::from(bias[channel]);
                        if silu {
                            expected *= sigmoid(expected);
                        }
                        let found = f64::from(out.get(index));
                        // x · factor + summand: the two cancel where the mean is large.
                        let allowed = allowed(expected, offset * inverse as f32, output);
                        prop_assert!((found - expected).abs() <= allowed, "{isa} {index}: {found} for {expected}, allowed {allowed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_layer_norm_is_its_definition(
        rows in 1_usize..9, cols in 1_usize..100, gap in 0_usize..3, (input, output) in (precision(), precision()), seed: u64,
    ) {
        let stride = cols + gap;
        let values = Tensor::noise(rows * stride, seed, input);
        let (weight, bias) = (noise(cols, seed ^ 1), noise(cols, seed ^ 2));
        for isa in Isa::available() {
            let mut out = Tensor::zeros(rows * stride, output);
            let norm = LayerNorm { eps: 1e-5, weight: &weight, bias: &bias };
            layer_norm(isa, values.matrix(rows, cols, stride), &norm, &mut out.matrix_mut(rows, cols, stride));
            for row in 0..rows {
                let members: Vec<f64> = (0..cols).map(|column| f64::from(values.get(row * stride + column))).collect();
                let (mean, inverse) = moments(&members, 1e-5);
                for column in 0..cols {
                    let expected = (members[column] - mean) * inverse * f64::from(weight[column]) + f64::from(bias[column]);
                    let found = f64::from(out.get(row * stride + column));
                    let allowed = allowed(expected, 0.0, output) * (1.0 + 1e-2 * inverse);
                    prop_assert!((found - expected).abs() <= allowed, "{isa} [{row}, {column}]: {found} for {expected}");
                }
            }
        }
    }
}

#[test]
fn a_group_norm_has_the_same_bits_on_any_number_of_threads() {
    let (pixels, channels) = (37 * 41, 64);
    let values = noise(2 * pixels * channels, 9);
    let (weight, bias) = (noise(channels, 1), noise(channels, 2));
    let norm = GroupNorm { groups: 32, eps: 1e-6, weight: &weight, bias: &bias, silu: true };
    for isa in Isa::available() {
        let run = |picture: usize, batch: usize| {
            let part = &values[picture * pixels * channels..][..batch * pixels * channels];
            let mut out = Tensor::zeros(part.len(), Precision::F32);
            let image = Image::new(part, [batch, 37, 41, channels]);
            group_norm(isa, &[image], &norm, &mut out.matrix_mut(batch * pixels, channels, channels));
            out.bits()
        };
        let all = on_threads(1, || run(0, 2));
        assert!(on_threads(3, || run(0, 2)) == all, "{isa}");
        assert!(on_threads(2, || run(1, 1)) == all[pixels * channels..], "{isa}");
    }
}

#[test]
fn a_group_norm_over_bands_has_the_bits_of_the_whole() {
    // Bands that end inside a run of 64 pixels, one of them within a single run, and empty ones.
    let (width, channels, heights) = (13, 20, [7, 0, 1, 2, 40, 0]);
    let height: usize = heights.iter().sum();
    let pixels = height * width;
    let (weight, bias) = (noise(channels, 1), noise(channels, 2));
    for (input, output) in
        [(Precision::F32, Precision::F32), (Precision::F32, Precision::Bf16), (Precision::Bf16, Precision::Bf16)]
    {
        let whole = Tensor::new(noise(pixels * channels, 9).iter().map(|value| value + 3.0).collect(), input);
        let rows = |first: usize, count: usize| {
            Image::new(whole.values().skip(first * width * channels), [1, count, width, channels])
        };
        let starts = heights.iter().scan(0, |above, height| Some(std::mem::replace(above, *above + height)));
        let bands: Vec<Image<'_>> = starts.zip(heights).map(|(first, count)| rows(first, count)).collect();
        for silu in [false, true] {
            let norm = GroupNorm { groups: 5, eps: 1e-6, weight: &weight, bias: &bias, silu };
            for isa in Isa::available() {
                let mut expected = Tensor::zeros(pixels * channels, output);
                group_norm(isa, &[rows(0, height)], &norm, &mut expected.matrix_mut(pixels, channels, channels));
                let scales = on_threads(3, || group_scales(isa, &bands, &norm));
                assert_eq!(scales, group_scales(isa, &[rows(0, height)], &norm), "{isa}");
                // Rows 6 to 11, out of three bands.
                let mut found = Tensor::zeros(5 * width * channels, output);
                let pieces = [rows(6, 1), rows(7, 1), rows(8, 2), rows(10, 1)];
                group_norm_rows(isa, &pieces, &scales, silu, &mut found.matrix_mut(5 * width, channels, channels));
                assert!(found.bits() == expected.bits()[6 * width * channels..11 * width * channels], "{isa}");
            }
        }
    }
}
