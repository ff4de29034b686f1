//! exp, sigmoid, the activations, softmax and bf16 rounding, over their whole ranges.
#![allow(missing_docs)]
mod reference;

use darkroom_kernels::{Function, Isa, Matrix, MatrixMut, add, apply, convert, softmax};
use half::bf16;
use proptest::prelude::*;
use reference::{gelu, noise, sigmoid};

fn exact(function: Function, x: f64) -> f64 {
    match function {
        Function::Exp => x.exp(),
        Function::Sigmoid => sigmoid(x),
        Function::Silu => x * sigmoid(x),
        Function::QuickGelu => x * sigmoid(1.702 * x),
        Function::Gelu => gelu(x),
    }
}

/// The largest relative error allowed for `function` of |x| ≤ 20; rounding the argument of exp costs |x| half-ulps where x is
/// squared or scaled first.
fn tolerance(function: Function, x: f64) -> f64 {
    match function {
        Function::Exp => 2e-7,
        Function::Sigmoid | Function::Silu => 4e-7,
        Function::QuickGelu => 4e-7 + 2e-7 * x.abs(),
        Function::Gelu => 6e-7 + 1e-7 * x * x,
    }
}

#[test]
fn functions_are_accurate_over_their_range() {
    let arguments: Vec<f32> =
        (-80_000..=80_000).map(|i| i as f32 / 8000.0).chain((-870..880).map(|i| i as f32 / 10.0)).collect();
    for isa in Isa::available() {
        for function in Function::ALL {
            let mut values = arguments.clone();
            apply(isa, function, &mut values);
            let mut worst = 0.0_f64;
            for (&x, &found) in arguments.iter().zip(&values) {
                let x = f64::from(x);
                let expected = exact(function, x);
                if expected.abs() < 1e-36 {
                    assert!(f64::from(found).abs() < 2e-36, "{isa} {function:?}({x}) = {found}");
                    continue;
                }
                let error = (f64::from(found) - expected).abs() / expected.abs();
                worst = worst.max(error / tolerance(function, x));
                assert!(worst <= 1.0, "{isa} {function:?}({x}) = {found} for {expected}: relative error {error:e}");
            }
        }
    }
}

#[test]
fn extremes_stay_finite_masked_scores_vanish_and_nan_stays_nan() {
    for isa in Isa::available() {
        let mut values = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30];
        apply(isa, Function::Exp, &mut values);
        assert_eq!(values[..4], [0.0, 0.0, 0.0, 1.0], "{isa}");
        assert!(values[4..].iter().all(|value| value.is_finite() && *value > 2e38), "{isa} {values:?}");
        for function in Function::ALL {
            let mut values = [f32::NAN; 17];
            apply(isa, function, &mut values);
            assert!(values.iter().all(|value| value.is_nan()), "{isa} {function:?} {values:?}");
        }
        let mut values = [-1e4, -50.0, 50.0, 1e4];
        apply(isa, Function::Silu, &mut values);
        assert!(values[0].abs() < 1e-30 && values[2..] == [50.0, 1e4], "{isa} {values:?}");
    }
}

#[test]
fn every_bf16_rounds_as_the_reference_does() {
    for isa in Isa::available() {
        // Values half-way between neighbours, just beside it, and on it; no subnormals, which the bf16 instructions flush.
        let exact =
            (0x0080..0x7f80_u32).flat_map(|bits| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| bits << 16 | low));
        let values: Vec<f32> =
            exact.flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)]).chain([0.0, f32::INFINITY]).collect();
        let mut short = vec![bf16::ZERO; values.len()];
        convert(isa, Matrix::new(&values, 1, values.len()), &mut MatrixMut::new(&mut short, 1, values.len()));
        for (value, short) in values.iter().zip(&short) {
            assert_eq!(short.to_bits(), bf16::from_f32(*value).to_bits(), "{isa} {value:e}");
        }
        let mut long = vec![0.0_f32; values.len()];
        convert(isa, Matrix::new(&short, 1, values.len()), &mut MatrixMut::new(&mut long, 1, values.len()));
        assert!(long.iter().zip(&short).all(|(long, short)| long.to_bits() == short.to_f32().to_bits()), "{isa}");
        let mut nan = [bf16::ZERO];
        convert(isa, Matrix::new(&[f32::NAN][..], 1, 1), &mut MatrixMut::new(&mut nan[..], 1, 1));
        assert!(nan[0].is_nan(), "{isa}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn softmax_sums_to_one_and_keeps_ratios(len in 1_usize..100, spread in 0.1_f32..50.0, seed: u64) {
        let scores: Vec<f32> = noise(len, seed).iter().map(|value| value * spread).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = scores.iter().map(|&score| f64::from(score - largest).exp()).sum();
        for isa in Isa::available() {
            let mut weights = scores.clone();
            softmax(isa, &mut weights);
            for (weight, &score) in weights.iter().zip(&scores) {
                let expected = f64::from(score - largest).exp() / sum;
                prop_assert!((f64::from(*weight) - expected).abs() <= 1e-6 * expected + 1e-37, "{isa}: {weight} for {expected}");
            }
        }
    }

    #[test]
    fn add_adds(len in 0_usize..70, seed: u64) {
        let (left, right) = (noise(len, seed), noise(len, seed ^ 1));
        for isa in Isa::available() {
            let mut sum = left.clone();
            add(isa, &mut sum, &right);
            prop_assert!(sum.iter().zip(&left).zip(&right).all(|((sum, left), right)| *sum == left + right));
        }
    }
}
