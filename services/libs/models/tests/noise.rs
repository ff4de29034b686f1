//! Noise against PyTorch's own, seed by seed and call after call.

#![allow(clippy::unwrap_used, reason = "a golden that cannot be read fails its test")]

use std::path::Path;

use darkroom_models::noise::Generator;
use serde::Deserialize;

/// Largest absolute error of a value.
const TOLERANCE: f32 = 2e-6;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    seed: u64,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    n: usize,
    /// Where `values` stand; all of them from 0 when absent.
    indexes: Option<Vec<usize>>,
    values: Vec<f32>,
}

#[test]
fn seeds_give_the_noise_of_torch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/noise/torch_randn.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(!golden.cases.is_empty());
    let mut largest = 0.0_f32;
    for Case { seed, calls } in golden.cases {
        let mut generator = Generator::new(seed);
        let sizes: Vec<usize> = calls.iter().map(|call| call.n).collect();
        for (i, call) in calls.into_iter().enumerate() {
            let values = generator.randn(call.n);
            let indexes = call.indexes.unwrap_or_else(|| (0..call.n).collect());
            assert_eq!(indexes.len(), call.values.len());
            for (index, expected) in indexes.into_iter().zip(call.values) {
                let error = (values[index] - expected).abs();
                assert!(
                    error <= TOLERANCE,
                    "seed {seed}, calls {sizes:?}: value {index} of call {i} is off by {error:e}"
                );
                largest = largest.max(error);
            }
        }
    }
    println!("largest absolute error {largest:.1e}");
}
