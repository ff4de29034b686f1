//! Convolutions against the plain definition, on every instruction set of this CPU.
#![allow(missing_docs)]
mod reference;

use darkroom_kernels::{Epilogue, GroupBias, Image, Isa, PackedWeights, Precision, Window, conv2d};
use proptest::prelude::*;
use reference::{Tensor, check, noise, on_threads, precision};

#[derive(Clone, Debug)]
struct Layer {
    batch: usize,
    size: [usize; 2],
    channels: Vec<usize>,
    n: usize,
    window: Window,
    arithmetic: Precision,
    input: Precision,
    seed: u64,
}

fn layers() -> impl Strategy<Value = Layer> {
    let upsample = prop_oneof![2 => Just(None), 1 => (0_usize..7, 0_usize..7).prop_map(Some)];
    let window = (1_usize..4, 1_usize..3, 0_usize..2, 0_usize..2, upsample);
    let channels =
        prop_oneof![3 => prop::collection::vec(1_usize..20, 1..3), 1 => prop::collection::vec(500_usize..600, 1..2)];
    let shape = (1_usize..3, 3_usize..8, 3_usize..12, channels, 1_usize..60);
    (shape, window, precision(), precision(), any::<u64>()).prop_map(|(shape, window, arithmetic, input, seed)| {
        let (batch, height, width, channels, n) = shape;
        let (kernel, stride, before, after, more) = window;
        let upsample = more.map(|(rows, cols)| [height + rows, width + cols]);
        let window = Window { kernel, stride, before, after, upsample };
        Layer { batch, size: [height, width], channels, n, window, arithmetic, input, seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_convolution_is_its_definition(layer in layers()) {
        let Layer { batch, size: [height, width], ref channels, n, window, arithmetic, input, seed } = layer;
        let all: usize = channels.iter().sum();
        let kernel = window.kernel;
        let tensors: Vec<Tensor> = (10..)
            .zip(channels)
            .map(|(i, &c)| Tensor::noise(batch * height * width * c, seed ^ i, input))
            .collect();
        let images: Vec<Image<'_>> =
            tensors.iter().zip(channels).map(|(tensor, &c)| Image::new(tensor.values(), [batch, height, width, c])).collect();
        let weights = noise(n * all * kernel * kernel, seed);
        let short = Tensor::new(weights.clone(), arithmetic);
        let bias = noise(batch * n, seed ^ 1);
        let [rows, cols] = window.output([height, width]);
        let enlarged = window.upsample.unwrap_or([height, width]);
        for isa in Isa::available() {
            let packed = PackedWeights::conv(isa, arithmetic, &weights, n, channels, kernel);
            let mut out = Tensor::zeros(batch * rows * cols * n, Precision::F32);
            let group_bias = Some(GroupBias { values: &bias, rows_per_group: rows * cols });
            let epilogue = Epilogue { group_bias, ..Epilogue::default() };
            conv2d(&images, &packed, window, &epilogue, &mut out.matrix_mut(batch * rows * cols, n, n));
            for (index, &found) in out.long.iter().enumerate() {
                let (o, x, y, b) = (index % n, index / n % cols, index / n / cols % rows, index / n / cols / rows);
                let (mut sum, mut scale) = (f64::from(bias[b * n + o]), 1.0);
                for tap in 0..kernel * kernel {
                    let at = [y * window.stride + tap / kernel, x * window.stride + tap % kernel];
                    if (0..2).any(|i| at[i] < window.before || at[i] - window.before >= enlarged[i]) {
                        continue;
                    }
                    let [iy, ix] = [0, 1].map(|i| (at[i] - window.before) * [height, width][i] / enlarged[i]);
                    let mut channel = 0;
                    for (tensor, &c) in tensors.iter().zip(channels) {
                        for i in 0..c {
                            let weight = f64::from(short.get((o * all + channel) * kernel * kernel + tap));
                            let term = weight * tensor.exact(((b * height + iy) * width + ix) * c + i, arithmetic);
                            sum += term;
                            scale += term.abs();
                            channel += 1;
                        }
                    }
                }
                check(found, sum, scale, Precision::F32, &|| format!("{isa} {layer:?} [{b}, {y}, {x}, {o}]"));
            }
        }
    }
}

#[test]
fn bits_depend_on_neither_other_pictures_nor_threads() {
    let (size, channels, n) = ([16, 24], 40, 70);
    let pixels = size[0] * size[1];
    let weights = noise(n * channels * 9, 3);
    let batch = noise(5 * pixels * channels, 4);
    for isa in Isa::available() {
        for arithmetic in [Precision::F32, Precision::Bf16] {
            let packed = PackedWeights::conv(isa, arithmetic, &weights, n, &[channels], 3);
            let run = |first: usize, count: usize| {
                let part = &batch[first * pixels * channels..][..count * pixels * channels];
                let mut out = Tensor::zeros(count * pixels * n, Precision::F32);
                let image = Image::new(part, [count, size[0], size[1], channels]);
                conv2d(
                    &[image],
                    &packed,
                    Window::SAME,
                    &Epilogue::default(),
                    &mut out.matrix_mut(count * pixels, n, n),
                );
                out.bits()
            };
            let all = on_threads(1, || run(0, 5));
            for picture in 0..5 {
                assert!(
                    on_threads(2, || run(picture, 1)) == all[picture * pixels * n..][..pixels * n],
                    "{isa} {arithmetic:?}"
                );
            }
            assert!(on_threads(2, || run(0, 5)) == all, "{isa} {arithmetic:?}");
        }
    }
}

#[test]
fn a_band_has_the_bits_that_its_rows_have_in_the_whole() {
    let ([height, width], channels, n) = ([8, 5], 6, 7);
    for (kernel, window) in [
        (3, Window::SAME),
        (3, Window::HALF),
        (3, Window::HALF_AFTER),
        (1, Window::POINT),
        (3, Window { upsample: Some([16, 10]), ..Window::SAME }),
    ] {
        for arithmetic in [Precision::F32, Precision::Bf16] {
            let picture = Tensor::noise(height * width * channels, 5, Precision::F32);
            let weights = noise(n * channels * kernel * kernel, 6);
            let [rows, cols] = window.output([height, width]);
            for isa in Isa::available() {
                let packed = PackedWeights::conv(isa, arithmetic, &weights, n, &[channels], kernel);
                let mut whole = Tensor::zeros(rows * cols * n, Precision::F32);
                let image = Image::new(picture.values(), [1, height, width, channels]);
                conv2d(&[image], &packed, window, &Epilogue::default(), &mut whole.matrix_mut(rows * cols, n, n));
                // Rows 2 to 6 of the picture, all of which is seen.
                let window = Window { upsample: window.upsample.map(|[_, width]| [8, width]), ..window };
                let (first, count) = (2 * rows / height, 4 * rows / height);
                let mut band = Tensor::zeros(count * cols * n, Precision::F32);
                let image = image.within(2, 2);
                conv2d(&[image], &packed, window, &Epilogue::default(), &mut band.matrix_mut(count * cols, n, n));
                let expected = &whole.bits()[first * cols * n..(first + count) * cols * n];
                assert!(band.bits() == expected, "{isa} {arithmetic:?} {window:?}");
            }
        }
    }
}
