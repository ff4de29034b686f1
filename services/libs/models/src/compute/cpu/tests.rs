//! The CPU's operations against the same ones composed on candle, which computes them in another layout and order.

use super::*;
use crate::compute::candle::Candle;
use crate::compute::{ComputeOptions, Device, Padding, Precision};

/// How far bf16 factors may take a value of about one.
const BF16: f32 = 0.03;

/// Values between −1 and 1 that repeat late.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 601) as f32 / 300.0 - 1.0).collect()
}

/// A weight whose sums over `shape[1..]` are about one.
fn weight(shape: &[usize], seed: usize) -> WeightTensor<'static> {
    let scale = (shape[1..].iter().product::<usize>() as f32).sqrt();
    let values: Vec<f32> = values(shape.iter().product(), seed).iter().map(|value| value / scale).collect();
    WeightTensor::from_f32(&values, shape)
}

/// Runs the same operations on candle and on the CPU in both precisions, and compares what comes out.
macro_rules! same {
    (|$backend:ident| $operations:expr) => {{
        let options = |precision| ComputeOptions { device: Device::Cpu, precision, threads: None };
        let expected: Vec<f32> = {
            let $backend = Candle::open(&options(Precision::F32)).unwrap();
            let y = $operations;
            $backend.download(&y).unwrap()
        };
        for (precision, allowed) in [(Precision::F32, 2e-6), (Precision::Bf16, BF16)] {
            let $backend = Cpu::open(&options(precision)).unwrap();
            let y = $operations;
            let found = $backend.download(&y).unwrap();
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() <= allowed * b.abs().max(1.0), "{precision}: {a} is not {b}");
            }
        }
    }};
}

fn epilogues<'a, T>(shift: &'a T, residual: &'a T) -> Vec<Epilogue<'a, T>> {
    let mut all = Vec::new();
    for activation in [Activation::None, Activation::Silu, Activation::QuickGelu] {
        for (channel_bias, residual) in
            [(None, None), (Some(shift), None), (None, Some(residual)), (Some(shift), Some(residual))]
        {
            all.push(Epilogue { channel_bias, added: None, activation, residual, rounded: false });
        }
    }
    all
}

/// Inputs and outputs of a convolution: few enough for the direct way, and enough for Winograd's.
const CHANNELS: [[usize; 2]; 2] = [[5, 6], [72, 67]];

#[test]
fn convolutions_of_every_geometry() {
    let kinds = [ConvGeometry::same(3), ConvGeometry::halving(), ConvGeometry::halving_asymmetric()];
    for ([inputs, outputs], geometry) in CHANNELS.into_iter().flat_map(|channels| kinds.map(|kind| (channels, kind))) {
        let (kernel, bias) = (weight(&[outputs, inputs, 3, 3], 1), weight(&[outputs], 2));
        for geometry in [geometry, ConvGeometry { coarse: true, ..geometry }] {
            same!(|backend| {
                let conv = backend.pack_conv(&kernel, &bias, geometry).unwrap();
                let x = backend.upload_image(&values(2 * inputs * 7 * 9, 3), [2, inputs, 7, 9]).unwrap();
                backend.conv2d(&conv, &x, Epilogue::none()).unwrap()
            });
        }
    }
}

#[test]
fn convolutions_of_enlarged_images() {
    let sizes = [(14, 18), (13, 17), (14, 17)];
    for ([inputs, outputs], size) in CHANNELS.into_iter().flat_map(|channels| sizes.map(|size| (channels, size))) {
        let (kernel, bias) = (weight(&[outputs, inputs, 3, 3], 1), weight(&[outputs], 2));
        same!(|backend| {
            let conv = backend.pack_conv(&kernel, &bias, ConvGeometry::upsampled()).unwrap();
            let x = backend.upload_image(&values(2 * inputs * 7 * 9, 3), [2, inputs, 7, 9]).unwrap();
            backend.upsample_conv2d(&conv, &x, size, Epilogue::none()).unwrap()
        });
    }
}

#[test]
fn epilogues_of_images() {
    for kernel in [1, 3] {
        let (conv, bias) = (weight(&[6, 4, kernel, kernel], 1), weight(&[6], 2));
        for case in 0..12 {
            same!(|backend| {
                let conv = backend.pack_conv(&conv, &bias, ConvGeometry::same(kernel)).unwrap();
                let x = backend.upload_image(&values(2 * 4 * 5 * 7, 3), [2, 4, 5, 7]).unwrap();
                let shift = backend.upload_tokens(&values(2 * 6, 4), [2, 1, 6]).unwrap();
                let residual = backend.upload_image(&values(2 * 6 * 5 * 7, 5), [2, 6, 5, 7]).unwrap();
                backend.conv2d(&conv, &x, epilogues(&shift, &residual).swap_remove(case)).unwrap()
            });
        }
    }
}

#[test]
fn linear_layers_plain_and_gated() {
    let (plain, gated, bias) = (weight(&[14, 6], 1), weight(&[14, 6], 1), weight(&[14], 2));
    for case in 0..12 {
        same!(|backend| {
            let x = backend.upload_tokens(&values(2 * 9 * 6, 3), [2, 9, 6]).unwrap();
            let residual = backend.upload_tokens(&values(2 * 9 * 14, 4), [2, 9, 14]).unwrap();
            let linear = backend.pack_linear(&plain, (case % 2 == 0).then_some(&bias)).unwrap();
            let epilogue = Epilogue { channel_bias: None, ..epilogues(&residual, &residual).swap_remove(case) };
            backend.linear(&linear, &x, epilogue).unwrap()
        });
    }
    same!(|backend| {
        let x = backend.upload_tokens(&values(2 * 9 * 6, 3), [2, 9, 6]).unwrap();
        let geglu = backend.pack_geglu(&gated, &bias).unwrap();
        backend.geglu(&geglu, &x, None).unwrap()
    });
}

#[test]
fn normalisations() {
    let (scale, shift) = (weight(&[12], 2), weight(&[12], 3));
    for (groups, activation) in [(1, Activation::None), (3, Activation::Silu), (12, Activation::Silu)] {
        same!(|backend| {
            let norm = backend.pack_group_norm(&scale, &shift, groups, 1e-5).unwrap();
            let x = backend.upload_image(&values(2 * 12 * 5 * 7, 1), [2, 12, 5, 7]).unwrap();
            backend.group_norm(&norm, &x, activation).unwrap()
        });
    }
    same!(|backend| {
        let norm = backend.pack_layer_norm(&scale, &shift, 1e-5).unwrap();
        let x = backend.upload_tokens(&values(2 * 5 * 12, 1), [2, 5, 12]).unwrap();
        backend.layer_norm(&norm, &x).unwrap()
    });
}

#[test]
fn concatenated_channels_are_read_as_one_image() {
    let (scale, shift) = (weight(&[12], 2), weight(&[12], 3));
    for kernel in [0, 1, 3] {
        same!(|backend| {
            let first = backend.upload_image(&values(2 * 7 * 5 * 6, 1), [2, 7, 5, 6]).unwrap();
            let second = backend.upload_image(&values(2 * 5 * 5 * 6, 8), [2, 5, 5, 6]).unwrap();
            let x = backend.concat_channels(&first, &second).unwrap();
            if kernel == 0 {
                let norm = backend.pack_group_norm(&scale, &shift, 3, 1e-5).unwrap();
                backend.group_norm(&norm, &x, Activation::Silu).unwrap()
            } else {
                let weight = weight(&[4, 12, kernel, kernel], 4);
                let bias = weight_of(4);
                let conv = backend.pack_conv(&weight, &bias, ConvGeometry::same(kernel)).unwrap();
                backend.conv2d(&conv, &x, Epilogue::none()).unwrap()
            }
        });
    }
}

fn weight_of(channels: usize) -> WeightTensor<'static> {
    weight(&[channels], 9)
}

#[test]
fn attention_to_itself_and_to_texts_of_any_length() {
    let projections = [1, 2, 3].map(|seed| weight(&[6, 6], seed));
    let biases = [4, 5, 6].map(|seed| weight(&[6], seed));
    for mask in [Mask::None, Mask::Causal] {
        same!(|backend| {
            let x = backend.upload_tokens(&values(3 * 7 * 6, 4), [3, 7, 6]).unwrap();
            let bare = backend.pack_self_attention(&projections, None, 2).unwrap();
            let x = backend.self_attention(&bare, &x, mask, None).unwrap();
            let biased = backend.pack_self_attention(&projections, Some(&biases), 2).unwrap();
            backend.self_attention(&biased, &x, mask, None).unwrap()
        });
    }
    let [_, to_k, to_v] = &projections;
    same!(|backend| {
        let linear = |weight| backend.pack_linear(weight, None).unwrap();
        let q = backend.upload_tokens(&values(3 * 7 * 6, 4), [3, 7, 6]).unwrap();
        let texts = [4, 9, 1].map(|length| {
            let text = backend.upload_tokens(&values(length * 6, length), [1, length, 6]).unwrap();
            backend.keys_values([&linear(to_k), &linear(to_v)], &text, 2, [None; 2]).unwrap()
        });
        backend.attention(&q, &texts.each_ref(), 2).unwrap()
    });
}

#[test]
fn embeddings_and_views() {
    let (table, positions) = (weight(&[11, 6], 1), weight(&[4, 6], 2));
    same!(|backend| {
        let [table, positions] = [&table, &positions].map(|table| backend.pack_embedding(table).unwrap());
        let tokens = backend.embed(&table, &positions, &[vec![3, 10, 0, 3], vec![7, 7, 1, 2]]).unwrap();
        let image = backend.tokens_to_image(&tokens, (2, 2)).unwrap();
        assert_eq!(backend.image_size(&image).unwrap(), (2, 2));
        image
    });
    same!(|backend| {
        let image = backend.upload_image(&values(2 * 6 * 3 * 4, 1), [2, 6, 3, 4]).unwrap();
        backend.image_to_tokens(&image).unwrap()
    });
}

/// A band of rows 4 to 8 of an image, whose windows see as much around it as there is, and of the last rows.
const BANDS: [[usize; 2]; 2] = [[4, 8], [8, 10]];

#[test]
fn a_band_is_convolved_as_where_it_stands() {
    let kinds =
        [ConvGeometry::same(3), ConvGeometry::halving(), ConvGeometry::halving_asymmetric(), ConvGeometry::upsampled()];
    for ([inputs, outputs], geometry) in CHANNELS.into_iter().flat_map(|channels| kinds.map(|kind| (channels, kind))) {
        let (kernel, bias) = (weight(&[outputs, inputs, 3, 3], 1), weight(&[outputs], 2));
        for [first, end] in BANDS {
            let Padding { before, after } = geometry.padding;
            let seen = first - before..10.min(end + after);
            let margins = Margins { above: before, below: seen.end - end };
            // Outputs of the band's own rows.
            let own = match geometry {
                ConvGeometry { upsampled: true, .. } => 2 * first..2 * end,
                ConvGeometry { stride, .. } => first / stride..end / stride,
            };
            // `same!` compares the backends; in each of them, the band must be what a band of the result is.
            same!(|backend| {
                let conv = backend.pack_conv(&kernel, &bias, geometry).unwrap();
                let x = backend.upload_image(&values(inputs * 10 * 9, 3), [1, inputs, 10, 9]).unwrap();
                let whole = match geometry.upsampled {
                    true => backend.upsample_conv2d(&conv, &x, (20, 18), Epilogue::none()).unwrap(),
                    false => backend.conv2d(&conv, &x, Epilogue::none()).unwrap(),
                };
                let expected = backend.download(&backend.rows(&whole, own.clone()).unwrap()).unwrap();
                let residual = backend.rows(&whole, own.clone()).unwrap();
                let x = backend.rows(&x, seen.clone()).unwrap();
                let band = backend.conv2d_band(&conv, &x, margins, Epilogue::none()).unwrap();
                close(&backend.download(&band).unwrap(), &expected);
                let doubled = backend.conv2d_band(&conv, &x, margins, Epilogue::add(&residual)).unwrap();
                close(&backend.download(&doubled).unwrap(), &expected.iter().map(|x| 2.0 * x).collect::<Vec<_>>());
                band
            });
        }
    }
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 2e-6 * b.abs().max(1.0)));
}

#[test]
fn rows_of_an_image_come_apart_and_together() {
    let data = values(6 * 5 * 4, 3);
    let rows = |first: usize, end: usize| -> Vec<f32> {
        data.chunks(5 * 4).flat_map(|plane| plane[first * 4..end * 4].to_vec()).collect()
    };
    same!(|backend| {
        let x = backend.upload_image(&data, [1, 6, 5, 4]).unwrap();
        let [a, b, c] = [0..1, 1..4, 4..5].map(|rows| backend.rows(&x, rows).unwrap());
        assert_eq!((backend.image_size(&b).unwrap(), backend.download(&b).unwrap()), ((3, 4), rows(1, 4)));
        let inner = backend.rows(&b, 1..2).unwrap();
        assert_eq!(backend.download(&inner).unwrap(), rows(2, 3));
        let y = backend.stack_rows(&[&a, &b, &c]).unwrap();
        assert_eq!(backend.download(&y).unwrap(), data);
        backend.stack_rows(&[&c, &inner]).unwrap()
    });
}

#[test]
fn bands_are_normalised_by_the_statistics_of_all() {
    let (scale, shift) = (weight(&[12], 2), weight(&[12], 3));
    for activation in [Activation::None, Activation::Silu] {
        same!(|backend| {
            let norm = backend.pack_group_norm(&scale, &shift, 3, 1e-5).unwrap();
            let x = backend.upload_image(&values(12 * 9 * 7, 1), [1, 12, 9, 7]).unwrap();
            let bands = [0..2, 2..3, 3..9].map(|rows| backend.rows(&x, rows).unwrap());
            let moments = backend.group_moments(&norm, &bands.each_ref()).unwrap();
            let pieces = [&backend.rows(&x, 1..2).unwrap(), &bands[1], &backend.rows(&x, 3..7).unwrap()];
            let found = backend.group_norm_rows(&norm, &moments, &pieces, activation).unwrap();
            let whole = backend.group_norm(&norm, &x, activation).unwrap();
            let expected = backend.download(&backend.rows(&whole, 1..7).unwrap()).unwrap();
            close(&backend.download(&found).unwrap(), &expected);
            found
        });
    }
}

#[test]
fn what_is_no_band_is_refused() {
    let cpu = Cpu::open(&ComputeOptions { device: Device::Cpu, precision: Precision::F32, threads: None }).unwrap();
    let image = |batch: usize, height: usize, width: usize| {
        cpu.upload_image(&values(batch * 4 * height * width, 1), [batch, 4, height, width]).unwrap()
    };
    let (x, wider, two) = (image(1, 5, 3), image(1, 5, 4), image(2, 5, 3));
    assert!(cpu.rows(&x, 3..6).is_err() && cpu.rows(&x, 2..2).is_err() && cpu.rows(&two, 0..1).is_err());
    assert!(cpu.stack_rows(&[]).is_err() && cpu.stack_rows(&[&x, &wider]).is_err() && cpu.stack_rows(&[&two]).is_err());
    let conv = cpu.pack_conv(&weight(&[4, 4, 3, 3], 1), &weight(&[4], 2), ConvGeometry::same(3)).unwrap();
    for margins in [Margins { above: 2, below: 0 }, Margins { above: 0, below: 2 }] {
        assert!(cpu.conv2d_band(&conv, &x, margins, Epilogue::none()).is_err());
    }
    let rows = cpu.rows(&x, 0..2).unwrap();
    assert!(cpu.conv2d_band(&conv, &rows, Margins { above: 1, below: 1 }, Epilogue::none()).is_err());
}

#[test]
fn what_is_added_to_sums() {
    let (plain, gated, bias) = (weight(&[14, 6], 1), weight(&[14, 6], 1), weight(&[14], 2));
    for activation in [Activation::None, Activation::Silu, Activation::QuickGelu] {
        same!(|backend| {
            let x = backend.upload_tokens(&values(2 * 9 * 6, 3), [2, 9, 6]).unwrap();
            let added = backend.upload_tokens(&values(2 * 9 * 14, 4), [2, 9, 14]).unwrap();
            let residual = backend.upload_tokens(&values(2 * 9 * 14, 5), [2, 9, 14]).unwrap();
            let linear = backend.pack_linear(&plain, Some(&bias)).unwrap();
            let epilogue = Epilogue { added: Some(&added), activation, ..Epilogue::add(&residual) };
            backend.linear(&linear, &x, epilogue).unwrap()
        });
    }
    same!(|backend| {
        let x = backend.upload_tokens(&values(2 * 9 * 6, 3), [2, 9, 6]).unwrap();
        let added = backend.upload_tokens(&values(2 * 9 * 14, 4), [2, 9, 14]).unwrap();
        let geglu = backend.pack_geglu(&gated, &bias).unwrap();
        backend.geglu(&geglu, &x, Some(&added)).unwrap()
    });
    let projections = [1, 2, 3].map(|seed| weight(&[8, 6], seed));
    same!(|backend| {
        let x = backend.upload_tokens(&values(2 * 9 * 6, 3), [2, 9, 6]).unwrap();
        let added = backend.upload_tokens(&values(2 * 9 * 24, 4), [2, 9, 24]).unwrap();
        let layer = backend.pack_self_attention(&projections, None, 2).unwrap();
        backend.self_attention(&layer, &x, Mask::Causal, Some(&added)).unwrap()
    });
    same!(|backend| {
        let x = backend.upload_tokens(&values(2 * 9 * 6, 3), [2, 9, 6]).unwrap();
        let [keys, values_of] = [4, 5].map(|seed| backend.upload_tokens(&values(2 * 9 * 8, seed), [2, 9, 8]).unwrap());
        let [to_q, to_k, to_v] = projections.each_ref().map(|weight| backend.pack_linear(weight, None).unwrap());
        let added = [Some(&keys), Some(&values_of)];
        let text = backend.keys_values([&to_k, &to_v], &x, 2, added).unwrap();
        backend.attention(&backend.linear(&to_q, &x, Epilogue::none()).unwrap(), &[&text], 2).unwrap()
    });
}

#[test]
fn what_is_added_to_convolutions() {
    for (upsampled, [inputs, outputs]) in [(false, [4, 6]), (false, [64, 80]), (true, [64, 80])] {
        let (kernel, bias) = (weight(&[outputs, inputs, 3, 3], 1), weight(&[outputs], 2));
        for (with_shift, with_residual) in [(false, false), (true, false), (false, true)] {
            if upsampled && (with_shift || with_residual) {
                continue;
            }
            same!(|backend| {
                let geometry = if upsampled { ConvGeometry::upsampled() } else { ConvGeometry::same(3) };
                let conv = backend.pack_conv(&kernel, &bias, geometry).unwrap();
                let x = backend.upload_image(&values(2 * inputs * 5 * 7, 3), [2, inputs, 5, 7]).unwrap();
                let (height, width) = if upsampled { (10, 14) } else { (5, 7) };
                let image = |seed| {
                    let all = values(2 * outputs * height * width, seed);
                    backend.upload_image(&all, [2, outputs, height, width]).unwrap()
                };
                let (added, residual) = (image(4), image(5));
                let shift = backend.upload_tokens(&values(2 * outputs, 6), [2, 1, outputs]).unwrap();
                let epilogue = Epilogue {
                    added: Some(&added),
                    channel_bias: with_shift.then_some(&shift),
                    residual: with_residual.then_some(&residual),
                    ..Epilogue::none()
                };
                match upsampled {
                    true => backend.upsample_conv2d(&conv, &x, (height, width), epilogue).unwrap(),
                    false => backend.conv2d(&conv, &x, epilogue).unwrap(),
                }
            });
        }
    }
}

#[test]
fn parts_of_a_batch_and_what_they_are_put_together_to() {
    same!(|backend| {
        let x = backend.upload_tokens(&values(4 * 3 * 5, 3), [4, 3, 5]).unwrap();
        let (last, middle) = (backend.pictures(&x, 3..4).unwrap(), backend.pictures(&x, 1..3).unwrap());
        let pieces = [
            Piece { picture: 0, column: 2, tokens: &last },
            Piece { picture: 2, column: 7, tokens: &middle },
            Piece { picture: 2, column: 0, tokens: &middle },
        ];
        backend.assemble(&pieces, 4, 12).unwrap()
    });
}
