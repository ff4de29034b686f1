//! Noise against PyTorch's own, seed by seed and call after call.

#![allow(clippy::unwrap_used, reason = "a golden that cannot be read fails its test")]

use std::path::Path;

use darkroom_models::noise::{Generator, Rng, vary};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Largest absolute error of a value.
const TOLERANCE: f32 = 2e-6;

#[derive(Deserialize)]
struct Golden<T> {
    cases: Vec<T>,
}

impl<T: DeserializeOwned> Golden<T> {
    fn read(name: &str) -> Vec<T> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/noise").join(name);
        let golden: Self = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(!golden.cases.is_empty());
        golden.cases
    }
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

#[derive(Deserialize)]
struct Varied {
    seeds: [u64; 2],
    shape: [usize; 3],
    strength: f64,
    values: Vec<f32>,
}

fn hold_against(file: &str, rng: Rng) {
    let mut largest = 0.0_f32;
    for Case { seed, calls } in Golden::read(file) {
        let mut generator = Generator::new(rng, seed);
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
    println!("{file}: largest absolute error {largest:.1e}");
}

#[test]
fn seeds_give_the_noise_of_torch() {
    hold_against("torch_randn.json", Rng::Cpu);
}

#[test]
fn seeds_give_the_noise_of_torch_on_a_gpu() {
    hold_against("cuda_randn.json", Rng::Cuda);
}

#[test]
fn a_real_gpu_gave_these() {
    // `torch.randn((3, 4), device="cuda")` of seed 0, as `modules/rng_philox.py` of AUTOMATIC1111's web UI quotes it.
    const VALUES: [f32; 12] = [
        -0.924_662_6,
        -0.425_344_15,
        -2.643_845_7,
        0.145_183_88,
        -0.120_866_47,
        -0.579_725_6,
        -0.622_851_2,
        -0.328_387_1,
        -1.074_542_3,
        -0.363_144_07,
        -1.671_050_7,
        2.265_505,
    ];
    for (value, expected) in Generator::new(Rng::Cuda, 0).randn(12).into_iter().zip(VALUES) {
        assert!((value - expected).abs() <= TOLERANCE, "{value} is not {expected}");
    }
}

#[test]
fn noise_turns_towards_another_seed_as_in_torch() {
    let mut largest = 0.0_f32;
    for Varied { seeds, shape: [channels, height, width], strength, values } in Golden::read("variation.json") {
        let [mut noise, other] = seeds.map(|seed| Generator::new(Rng::Cpu, seed).randn(channels * height * width));
        vary(&mut noise, &other, [height, width], strength);
        let errors = noise.iter().zip(&values).map(|(value, expected)| (value - expected).abs());
        largest = errors.fold(largest, f32::max);
    }
    println!("largest absolute error {largest:.1e}");
    assert!(largest <= 2.0 * TOLERANCE);
}
