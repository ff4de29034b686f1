//! Attention against the plain definition, on every instruction set of this CPU.
#![allow(missing_docs)]
mod reference;

use darkroom_kernels::{Isa, KeyValues, Mask, Precision, attention};
use proptest::prelude::*;
use reference::{Tensor, on_threads, precision};

/// One output row of one head in f64, with factors rounded to `arithmetic`.
fn row(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    [q_at, kv_at, stride, size]: [usize; 4],
    keys: usize,
    scale: f64,
    p: Precision,
) -> Vec<f64> {
    let score = |key: usize| -> f64 {
        scale * (0..size).map(|i| q.exact(q_at + i, p) * k.exact(kv_at + key * stride + i, p)).sum::<f64>()
    };
    let scores: Vec<f64> = (0..keys).map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let value = |i: usize| (0..keys).map(|key| weights[key] * v.exact(kv_at + key * stride + i, p)).sum::<f64>() / sum;
    (0..size).map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn attention_is_its_definition(
        batch in 1_usize..3,
        heads in 1_usize..4,
        size in prop_oneof![4 => 1_usize..70, 1 => Just(80), 1 => Just(160)],
        queries in 1_usize..80,
        keys in prop_oneof![3 => 1_usize..60, 1 => 380_usize..400, 1 => 760_usize..800],
        gap in 0_usize..3,
        causal: bool,
        (arithmetic, input, output) in (precision(), precision(), precision()),
        sharpness in 0.1_f32..4.0,
        seed: u64,
    ) {
        let keys = if causal { queries } else { keys };
        let width = heads * size;
        let stride = width + gap;
        let q = Tensor::noise(batch * queries * stride, seed, input);
        let k = Tensor::noise(batch * keys * stride, seed ^ 1, input);
        let v = Tensor::noise(batch * keys * stride, seed ^ 2, input);
        let mask = if causal { Mask::Causal } else { Mask::Full };
        for isa in Isa::available() {
            let contexts: Vec<KeyValues> = (0..batch).map(|b| {
                let part = |tensor: &Tensor| Tensor::new(tensor.long[b * keys * stride..][..keys * stride].to_vec(), tensor.precision);
                let (k, v) = (part(&k), part(&v));
                KeyValues::new(isa, arithmetic, k.matrix(keys, width, stride), v.matrix(keys, width, stride), heads)
            }).collect();
            let contexts: Vec<&KeyValues> = contexts.iter().collect();
            let mut out = Tensor::zeros(batch * queries * stride, output);
            attention(
                q.matrix(batch * queries, width, stride), &contexts, sharpness, mask,
                &mut out.matrix_mut(batch * queries, width, stride),
            );
            // Scores are rounded relative to their size before the exponential; bf16 weights and results to 8 bits.
            let mut allowed = 2e-6 + f64::from(sharpness) * size as f64 * 4e-7;
            allowed += if arithmetic == Precision::Bf16 { 1.0 / 256.0 } else { 0.0 };
            allowed += if output == Precision::Bf16 { 1.0 / 512.0 } else { 0.0 };
            for b in 0..batch {
                for i in (0..queries).step_by(7).chain([queries - 1]) {
                    for h in 0..heads {
                        let q_at = (b * queries + i) * stride + h * size;
                        let at = [q_at, b * keys * stride + h * size, stride, size];
                        let seen = if causal { i + 1 } else { keys };
                        let expected = row(&q, &k, &v, at, seen, f64::from(sharpness), arithmetic);
                        for (c, expected) in expected.iter().enumerate() {
                            let found = f64::from(out.get(q_at + c));
                            let error = (found - expected).abs();
                            prop_assert!(error <= allowed, "{isa} [{b}, {i}, {h}, {c}]: {found} for {expected}, allowed {allowed}");
                        }
                    }
                }
            }
        }
    }
}

/// Scores that climb far above the first ones' again and again: what was summed has to be scaled down each time, for some queries and
/// not for others.
#[test]
fn rising_scores_are_measured_anew() {
    let (queries, keys, size) = (50, 300, 8);
    // The first value of query i says how fast its scores climb.
    let climb = |i: usize| i as f32 / 20.0;
    let mut q = vec![0.0; queries * size];
    for (i, query) in q.chunks_mut(size).enumerate() {
        query[0] = climb(i);
    }
    let mut k = vec![0.0; keys * size];
    for (j, key) in k.chunks_mut(size).enumerate() {
        key[0] = j as f32;
    }
    let [q, k] = [q, k].map(|values| Tensor::new(values, Precision::F32));
    let v = Tensor::noise(keys * size, 7, Precision::F32);
    for isa in Isa::available() {
        for (arithmetic, allowed) in [(Precision::F32, 1e-4), (Precision::Bf16, 1.0 / 100.0)] {
            let context = KeyValues::new(isa, arithmetic, k.matrix(keys, size, size), v.matrix(keys, size, size), 1);
            let mut out = Tensor::zeros(queries * size, Precision::F32);
            let input = q.matrix(queries, size, size);
            attention(input, &[&context], 1.0, Mask::Full, &mut out.matrix_mut(queries, size, size));
            for i in 0..queries {
                let expected = row(&q, &k, &v, [i * size, 0, size, size], keys, 1.0, arithmetic);
                for (c, expected) in expected.iter().enumerate() {
                    let found = f64::from(out.get(i * size + c));
                    assert!(
                        (found - expected).abs() <= allowed,
                        "{isa} {arithmetic:?} [{i}, {c}]: {found}, {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn bits_depend_on_neither_other_queries_nor_threads() {
    let (tokens, heads, size) = (700, 2, 40);
    let width = heads * size;
    let [q, k, v] = [1, 2, 3].map(|seed| Tensor::noise(tokens * width, seed, Precision::Bf16));
    for isa in Isa::available() {
        for arithmetic in [Precision::F32, Precision::Bf16] {
            let run = |first: usize, rows: usize| {
                let context = KeyValues::new(
                    isa,
                    arithmetic,
                    k.matrix(tokens, width, width),
                    v.matrix(tokens, width, width),
                    heads,
                );
                let part = Tensor::new(q.long[first * width..][..rows * width].to_vec(), Precision::Bf16);
                let mut out = Tensor::zeros(rows * width, Precision::F32);
                let queries = part.matrix(rows, width, width);
                attention(queries, &[&context], 0.158, Mask::Full, &mut out.matrix_mut(rows, width, width));
                out.bits()
            };
            let all = on_threads(1, || run(0, tokens));
            for (threads, first, rows) in [(2, 0, tokens), (2, 3, 1), (1, 60, 100), (3, 401, 299)] {
                let part = on_threads(threads, || run(first, rows));
                assert!(part == all[first * width..][..rows * width], "{isa} {arithmetic:?} {threads} {first}+{rows}");
            }
        }
    }
}
