//! Linear layers against the plain definition, on every instruction set of this CPU, over odd shapes and all remainders.
#![allow(missing_docs)]
mod reference;

use darkroom_kernels::{Activation, Epilogue, GroupBias, Isa, PackedWeights, Precision, Residual, gemm};
use proptest::prelude::*;
use reference::{Tensor, check, gelu, noise, on_threads, precision, sigmoid};

#[derive(Clone, Debug)]
struct Layer {
    m: usize,
    k: usize,
    n: usize,
    gap: usize,
    arithmetic: Precision,
    input: Precision,
    output: Precision,
    bias: bool,
    rows_per_group: usize,
    activation: Activation,
    residual: u8,
    seed: u64,
}

fn layers() -> impl Strategy<Value = Layer> {
    let k = prop_oneof![8 => 1_usize..70, 1 => 500_usize..530, 1 => 1020_usize..1100];
    let shape = (1_usize..40, k, 1_usize..150, 0_usize..3);
    let types = (precision(), precision(), precision());
    let activation = prop::sample::select(vec![Activation::Identity, Activation::Silu, Activation::QuickGelu]);
    let epilogue = (any::<bool>(), 0_usize..5, activation, 0_u8..3);
    (shape, types, epilogue, any::<u64>()).prop_map(|((m, k, n, gap), (arithmetic, input, output), epilogue, seed)| {
        let (bias, rows_per_group, activation, residual) = epilogue;
        Layer { m, k, n, gap, arithmetic, input, output, bias, rows_per_group, activation, residual, seed }
    })
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Silu => x * sigmoid(x),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
    }
}

/// The sum of one output and of its terms' magnitudes.
fn dot(input: &Tensor, row: usize, weights: &[f32], arithmetic: Precision) -> (f64, f64) {
    let weights = Tensor::new(weights.to_vec(), arithmetic);
    let terms = (0..weights.long.len()).map(|i| input.exact(row + i, arithmetic) * f64::from(weights.get(i)));
    terms.fold((0.0, 0.0), |(sum, scale), term| (sum + term, scale + term.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a_layer_is_its_definition(layer in layers()) {
        let Layer { m, k, n, gap, arithmetic, seed, .. } = layer.clone();
        let (stride, out_stride) = (k + gap, n + gap);
        let input = Tensor::noise(m * stride, seed, layer.input);
        let weights = noise(n * k, seed ^ 1);
        let bias = noise(n, seed ^ 2);
        let groups = noise(m * n, seed ^ 3);
        let residual = Tensor::noise(m * n, seed ^ 4, layer.input);
        for isa in Isa::available() {
            let packed = PackedWeights::linear(isa, arithmetic, &weights, n, k);
            let before = Tensor::noise(m * out_stride, seed ^ 5, layer.output);
            let mut out = Tensor::noise(m * out_stride, seed ^ 5, layer.output);
            let epilogue = Epilogue {
                bias: layer.bias.then_some(&bias),
                group_bias: (layer.rows_per_group > 0)
                    .then_some(GroupBias { values: &groups, rows_per_group: layer.rows_per_group }),
                activation: layer.activation,
                residual: match layer.residual {
                    0 => Residual::None,
                    1 => Residual::Output,
                    _ => Residual::Matrix(residual.matrix(m, n, n)),
                },
            };
            gemm(input.matrix(m, k, stride), &packed, &epilogue, &mut out.matrix_mut(m, n, out_stride));
            for row in 0..m {
                for column in 0..out_stride {
                    let at = row * out_stride + column;
                    if column >= n {
                        prop_assert_eq!(out.get(at), before.get(at), "what lies between rows is left alone");
                        continue;
                    }
                    let (mut sum, scale) = dot(&input, row * stride, &weights[column * k..][..k], arithmetic);
                    sum += if layer.bias { f64::from(bias[column]) } else { 0.0 };
                    if let Some(group) = row.checked_div(layer.rows_per_group) {
                        sum += f64::from(groups[group * n + column]);
                    }
                    let added = match layer.residual {
                        0 => 0.0,
                        1 => f64::from(before.get(at)),
                        _ => f64::from(residual.get(row * n + column)),
                    };
                    let expected = activate(layer.activation, sum) + added;
                    check(out.get(at), expected, scale + 2.0, layer.output, &|| format!("{isa} {layer:?} [{row}, {column}]"));
                }
            }
        }
    }

    #[test]
    fn geglu_multiplies_values_by_gelu_of_their_gates(
        m in 1_usize..20, k in 1_usize..40, half in 1_usize..90, arithmetic in precision(), output in precision(),
        rows_per_group in 0_usize..4, seed: u64,
    ) {
        let n = 2 * half;
        let input = Tensor::noise(m * k, seed, arithmetic);
        let weights = noise(n * k, seed ^ 1);
        let bias = noise(n, seed ^ 2);
        let groups = noise(m * n, seed ^ 3);
        for isa in Isa::available() {
            let packed = PackedWeights::geglu(isa, arithmetic, &weights, n, k);
            let mut out = Tensor::zeros(m * half, output);
            let group_bias = (rows_per_group > 0).then_some(GroupBias { values: &groups, rows_per_group });
            let epilogue = Epilogue { bias: Some(&bias), group_bias, ..Epilogue::default() };
            gemm(input.matrix(m, k, k), &packed, &epilogue, &mut out.matrix_mut(m, half, half));
            for row in 0..m {
                for column in 0..half {
                    let (value, value_scale) = dot(&input, row * k, &weights[column * k..][..k], arithmetic);
                    let (gate, gate_scale) = dot(&input, row * k, &weights[(half + column) * k..][..k], arithmetic);
                    let (value, gate) = (value + f64::from(bias[column]), gate + f64::from(bias[half + column]));
                    let group = |at: usize| row.checked_div(rows_per_group).map_or(0.0, |group| f64::from(groups[group * n + at]));
                    let (value, gate) = (value + group(column), gate + group(half + column));
                    // For results in bf16 GELU is good for 1.4e-5.
                    let digits = if output == Precision::Bf16 { 4.0 } else { 1.0 };
                    let scale = digits * (value_scale + 2.0) * (gate_scale + 2.0);
                    check(out.get(row * half + column), value * gelu(gate), scale, output, &|| format!("{isa} [{row}, {column}]"));
                }
            }
        }
    }
}

#[test]
fn bits_depend_on_neither_other_rows_nor_threads() {
    for (k, n) in [(320, 320), (2500, 130)] {
        let m = 530;
        let weights = noise(n * k, 7);
        for isa in Isa::available() {
            for arithmetic in [Precision::F32, Precision::Bf16] {
                let packed = PackedWeights::linear(isa, arithmetic, &weights, n, k);
                let input = Tensor::noise(m * k, 11, Precision::F32);
                let run = |first: usize, rows: usize| {
                    let mut out = Tensor::zeros(rows * n, Precision::F32);
                    let part = Tensor::new(input.long[first * k..][..rows * k].to_vec(), Precision::F32);
                    gemm(part.matrix(rows, k, k), &packed, &Epilogue::default(), &mut out.matrix_mut(rows, n, n));
                    out.bits()
                };
                let all = on_threads(1, || run(0, m));
                for (threads, first, rows) in [(2, 0, m), (3, 0, m), (2, 5, 1), (1, 100, 7), (2, 250, 270)] {
                    let part = on_threads(threads, || run(first, rows));
                    assert!(
                        part == all[first * n..][..rows * n],
                        "{isa} {arithmetic:?} {threads} threads, rows {first}+{rows}"
                    );
                }
            }
        }
    }
}
