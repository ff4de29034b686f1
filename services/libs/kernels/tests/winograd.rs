//! Winograd convolutions against the plain definition, on every instruction set of this CPU.
#![allow(missing_docs)]
mod reference;

use darkroom_kernels::{
    Activation, Epilogue, GroupBias, Image, Isa, MatrixMut, Precision, Residual, Tiles, WinogradWeights, winograd,
};
use proptest::prelude::*;
use reference::{Tensor, noise, on_threads, precision, sigmoid};

/// Every way of cutting that there is in a precision.
const WAYS: [(Precision, Tiles); 5] = [
    (Precision::F32, Tiles::Two),
    (Precision::F32, Tiles::Four),
    (Precision::F32, Tiles::Doubled),
    (Precision::Bf16, Tiles::Two),
    (Precision::Bf16, Tiles::Doubled),
];

#[derive(Clone, Debug)]
struct Layer {
    batch: usize,
    size: [usize; 2],
    channels: Vec<usize>,
    n: usize,
    gap: usize,
    way: (Precision, Tiles),
    /// Rows and columns that an enlarged picture lacks.
    cut: [usize; 2],
    input: Precision,
    output: Precision,
    bias: bool,
    rows_per_group: usize,
    silu: bool,
    residual: u8,
    seed: u64,
}

fn layers() -> impl Strategy<Value = Layer> {
    let channels =
        prop_oneof![3 => prop::collection::vec(1_usize..40, 1..3), 1 => prop::collection::vec(500_usize..1100, 1..2)];
    let shape = (1_usize..3, 1_usize..11, 1_usize..11, channels, prop_oneof![1_usize..20, 30_usize..110], 0_usize..3);
    let types = (prop::sample::select(&WAYS), prop::array::uniform2(0_usize..2), precision(), precision());
    let epilogue = (any::<bool>(), 0_usize..50, any::<bool>(), 0_u8..3);
    (shape, types, epilogue, any::<u64>()).prop_map(|(shape, types, epilogue, seed)| {
        let (batch, height, width, channels, n, gap) = shape;
        let (way, cut, input, output) = types;
        let (bias, rows_per_group, silu, residual) = epilogue;
        let size = [height, width];
        Layer { batch, size, channels, n, gap, way, cut, input, output, bias, rows_per_group, silu, residual, seed }
    })
}

/// What a layer reads.
struct Input<'a> {
    tensors: &'a [Tensor],
    channels: &'a [usize],
    size: [usize; 2],
    /// How often each pixel stands in each direction.
    each: usize,
    /// Height and width of the enlarged picture.
    enlarged: [usize; 2],
}

impl Input<'_> {
    /// A value of the enlarged picture; zero outside.
    fn at(&self, picture: usize, [y, x]: [isize; 2], image: usize, channel: usize) -> f64 {
        let ([height, width], [rows, cols]) = (self.size, self.enlarged);
        if y < 0 || x < 0 || y >= rows as isize || x >= cols as isize {
            return 0.0;
        }
        let pixel = (picture * height + y as usize / self.each) * width + x as usize / self.each;
        f64::from(self.tensors[image].get(pixel * self.channels[image] + channel))
    }

    /// Output `o` of the pixel at `[y, x]`, and how large a rounding error can be that is relative to the transformed factors: the root
    /// of the sum, over the channels, of the squares of the weights times that of the largest pixel around.
    fn output(&self, weights: &[f32], picture: usize, [y, x]: [usize; 2], o: usize) -> (f64, f64) {
        let all: usize = self.channels.iter().sum();
        let (mut sum, mut squares) = (0.0, 0.0);
        let mut row = weights[o * all * 9..][..all * 9].chunks_exact(9);
        for (image, &channels) in self.channels.iter().enumerate() {
            for (channel, taps) in (0..channels).zip(&mut row) {
                let mut largest = 0.0_f64;
                // A patch is at most six pixels long, so that this one includes it.
                for dy in -5..=5 {
                    for dx in -5..=5 {
                        let value = self.at(picture, [y as isize + dy, x as isize + dx], image, channel);
                        largest = largest.max(value.abs());
                        if dy.abs() <= 1 && dx.abs() <= 1 {
                            sum += value * f64::from(taps[((dy + 1) * 3 + dx + 1) as usize]);
                        }
                    }
                }
                squares += largest.powi(2) * taps.iter().map(|&tap| f64::from(tap).powi(2)).sum::<f64>();
            }
        }
        (sum, squares.sqrt())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_convolution_is_its_definition(layer in layers()) {
        let Layer { batch, size: [height, width], ref channels, n, gap, way: (arithmetic, tiles), cut, seed, .. } = layer;
        let all: usize = channels.iter().sum();
        let tensors: Vec<Tensor> = (10..)
            .zip(channels)
            .map(|(i, &c)| Tensor::noise(batch * height * width * c, seed ^ i, layer.input))
            .collect();
        let images: Vec<Image<'_>> =
            tensors.iter().zip(channels).map(|(tensor, &c)| Image::new(tensor.values(), [batch, height, width, c])).collect();
        let weights = noise(n * all * 9, seed);
        let (each, cut) = if tiles == Tiles::Doubled { (2, cut) } else { (1, [0, 0]) };
        let [rows, cols] = [each * height - cut[0], each * width - cut[1]];
        let input = Input { tensors: &tensors, channels, size: [height, width], each, enlarged: [rows, cols] };
        let (pixels, stride) = (batch * rows * cols, n + gap);
        let (bias, groups) = (noise(n, seed ^ 1), noise(pixels * n, seed ^ 2));
        let residual = Tensor::noise(pixels * n, seed ^ 3, layer.input);
        let before = Tensor::noise(pixels * stride, seed ^ 4, layer.output);
        let epilogue = Epilogue {
            bias: layer.bias.then_some(&bias),
            group_bias: (layer.rows_per_group > 0)
                .then_some(GroupBias { values: &groups, rows_per_group: layer.rows_per_group }),
            activation: if layer.silu { Activation::Silu } else { Activation::Identity },
            residual: match layer.residual {
                0 => Residual::None,
                1 => Residual::Output,
                _ => Residual::Matrix(residual.matrix(pixels, n, n)),
            },
        };
        let found: Vec<(Isa, Tensor)> = Isa::available().map(|isa| {
            let packed = WinogradWeights::new(isa, arithmetic, &weights, n, channels, tiles);
            let mut out = Tensor::noise(pixels * stride, seed ^ 4, layer.output);
            winograd(&images, &packed, [rows, cols], &epilogue, &mut out.matrix_mut(pixels, n, stride));
            (isa, out)
        }).collect();
        // Errors of the factors' rounding are independent, but of one or two channels there are too few to even out: of 60 million
        // such sums in bf16 the worst was off by 2.6e-2. For more channels these are about twice the largest that were found.
        let relative = match arithmetic {
            Precision::F32 => 2e-5,
            Precision::Bf16 if all <= 2 => 4e-2,
            Precision::Bf16 => 2e-2,
        };
        let short = if layer.output == Precision::Bf16 { 1.0 / 256.0 } else { 1e-6 };
        let chosen = (0..pixels).flat_map(|pixel| (0..stride).map(move |column| (pixel, column)));
        // Many channels make for long loops: some of the columns will do.
        let step = 1 + all / 64;
        for (pixel, column) in chosen.filter(|(_, column)| column % step == 0 || *column + 1 >= n) {
            let at = pixel * stride + column;
            if column >= n {
                for (isa, out) in &found {
                    prop_assert_eq!(out.get(at), before.get(at), "{} writes between rows", isa);
                }
                continue;
            }
            let (mut sum, size) = input.output(&weights, pixel / cols / rows, [pixel / cols % rows, pixel % cols], column);
            sum += if layer.bias { f64::from(bias[column]) } else { 0.0 };
            if let Some(group) = pixel.checked_div(layer.rows_per_group) {
                sum += f64::from(groups[group * n + column]);
            }
            sum = if layer.silu { sum * sigmoid(sum) } else { sum };
            sum += match layer.residual {
                0 => 0.0,
                1 => f64::from(before.get(at)),
                _ => f64::from(residual.get(pixel * n + column)),
            };
            let allowed = relative * size + short * sum.abs() + 1e-5;
            for (isa, out) in &found {
                let error = (f64::from(out.get(at)) - sum).abs();
                prop_assert!(
                    error <= allowed,
                    "{isa} {layer:?} [{pixel}, {column}]: {} for {sum}, allowed {allowed:e}", out.get(at)
                );
            }
        }
    }
}

#[test]
fn errors_stay_small_on_what_a_model_computes() {
    let ([height, width], channels, n) = ([12, 16], 320, 48);
    // As after a normalisation and SiLU, neighbours being alike: each pixel is the sum of nine values that it shares with them.
    // (Where they have nothing in common, the error in bf16 is 4.1e-3.)
    let values = noise((height + 2) * (width + 2) * channels, 5);
    let pixels = (0..height * width * channels).map(|i| (i / channels / width, i / channels % width, i % channels));
    let normal = pixels.map(|(y, x, c)| {
        let around = (0..9).map(|i| values[((y + i / 3) * (width + 2) + x + i % 3) * channels + c]);
        around.sum::<f32>() / 3.0_f32.sqrt()
    });
    let activations: Vec<f32> = normal.map(|x| x / (1.0 + (-x).exp())).collect();
    let weights: Vec<f32> = noise(n * channels * 9, 6).iter().map(|weight| 0.03 * weight).collect();
    for (arithmetic, tiles) in WAYS {
        let most = if arithmetic == Precision::F32 { 3e-6 } else { 3.5e-3 };
        // As the model keeps them, so that the errors are those of the convolution.
        let tensors = [Tensor::new(activations.clone(), arithmetic)];
        let short = Tensor::new(weights.clone(), arithmetic);
        let each = if tiles == Tiles::Doubled { 2 } else { 1 };
        let [rows, cols] = [each * height, each * width];
        let input =
            Input { tensors: &tensors, channels: &[channels], size: [height, width], each, enlarged: [rows, cols] };
        for isa in Isa::available() {
            let packed = WinogradWeights::new(isa, arithmetic, &short.long, n, &[channels], tiles);
            let mut out = vec![0.0_f32; rows * cols * n];
            let image = Image::new(tensors[0].values(), [1, height, width, channels]);
            let to = &mut MatrixMut::new(&mut out, rows * cols, n);
            winograd(&[image], &packed, [rows, cols], &Epilogue::default(), to);
            let (mut errors, mut squares) = (0.0, 0.0);
            for (pixel, row) in out.chunks_exact(n).enumerate().step_by(7) {
                for (column, &found) in row.iter().enumerate().step_by(5) {
                    let (expected, _) = input.output(&short.long, 0, [pixel / cols, pixel % cols], column);
                    errors += (f64::from(found) - expected).powi(2);
                    squares += expected * expected;
                }
            }
            let error = f64::sqrt(errors / squares);
            println!("{isa} {arithmetic:?} {tiles:?}: relative error {error:.2e}");
            assert!(error <= most, "{isa} {arithmetic:?} {tiles:?}: {error:e}");
        }
    }
}

#[test]
fn bits_depend_on_neither_other_pictures_nor_threads() {
    for (size, channels, n) in [([18, 23], 40, 70), ([30, 64], 24, 20), ([5, 4], 1100, 90)] {
        let pixels = size[0] * size[1];
        let weights = noise(n * channels * 9, 3);
        let batch = noise(5 * pixels * channels, 4);
        for isa in Isa::available() {
            for (arithmetic, tiles) in WAYS {
                let packed = WinogradWeights::new(isa, arithmetic, &weights, n, &[channels], tiles);
                let result = if tiles == Tiles::Doubled { size.map(|length| 2 * length - 1) } else { size };
                let outputs = result[0] * result[1];
                let run = |first: usize, count: usize| {
                    let part = &batch[first * pixels * channels..][..count * pixels * channels];
                    let mut out = Tensor::zeros(count * outputs * n, Precision::F32);
                    let image = Image::new(part, [count, size[0], size[1], channels]);
                    let to = &mut out.matrix_mut(count * outputs, n, n);
                    winograd(&[image], &packed, result, &Epilogue::default(), to);
                    out.bits()
                };
                let all = on_threads(1, || run(0, 5));
                for picture in 0..5 {
                    assert!(
                        on_threads(2, || run(picture, 1)) == all[picture * outputs * n..][..outputs * n],
                        "{isa} {arithmetic:?} {tiles:?}"
                    );
                }
                assert!(on_threads(3, || run(0, 5)) == all, "{isa} {arithmetic:?} {tiles:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "channels of each image")]
fn other_images_than_the_weights_are_for_are_refused() {
    let weights = WinogradWeights::new(Isa::best(), Precision::F32, &noise(4 * 6 * 9, 1), 4, &[2, 4], Tiles::Two);
    let (values, mut out) = (noise(6, 2), [0.0_f32; 4]);
    let image = |channels: usize| Image::new(&values[..channels], [1, 1, 1, channels]);
    winograd(&[image(4), image(2)], &weights, [1, 1], &Epilogue::default(), &mut MatrixMut::new(&mut out[..], 1, 4));
}

#[test]
fn a_band_at_a_tiles_edge_has_the_bits_that_its_rows_have_in_the_whole() {
    let ([height, width], channels, n) = ([14, 6], 9, 11);
    for (arithmetic, tiles) in WAYS {
        let each = if tiles == Tiles::Doubled { 2 } else { 1 };
        let picture = Tensor::noise(height * width * channels, 5, Precision::F32);
        let weights = noise(n * channels * 9, 6);
        let row = each * width * n;
        for isa in Isa::available() {
            let packed = WinogradWeights::new(isa, arithmetic, &weights, n, &[channels], tiles);
            let apply = |image: Image<'_>, height: usize| {
                let mut out = Tensor::zeros(each * height * row, Precision::F32);
                let mut matrix = out.matrix_mut(each * height * each * width, n, n);
                winograd(&[image], &packed, [each * height, each * width], &Epilogue::default(), &mut matrix);
                out.bits()
            };
            let rows = |first: usize, count: usize| {
                Image::new(picture.values().skip(first * width * channels), [1, count, width, channels])
            };
            let whole = apply(rows(0, height), height);
            for (image, first, count) in
                [(rows(0, 5).within(0, 1), 0, 4), (rows(3, 6).within(1, 1), 4, 4), (rows(7, 7).within(1, 0), 8, 6)]
            {
                let expected = &whole[each * first * row..each * (first + count) * row];
                assert!(
                    on_threads(2, || apply(image, count)) == expected,
                    "{isa} {arithmetic:?} {tiles:?}, row {first}"
                );
            }
        }
    }
}
