//! Plain double-precision definitions of what the kernels compute, and how far a kernel may be from them.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // each test binary uses some of it

use darkroom_kernels::{Matrix, MatrixMut, Precision};
use half::bf16;

/// Values that a test draws: small, of both signs, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Values in one precision, and what they are in f64.
pub struct Tensor {
    pub precision: Precision,
    pub long: Vec<f32>,
    pub short: Vec<bf16>,
}

impl Tensor {
    pub fn new(values: Vec<f32>, precision: Precision) -> Tensor {
        let short: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
        let long = match precision {
            Precision::F32 => values,
            Precision::Bf16 => short.iter().map(|value| value.to_f32()).collect(),
        };
        Tensor { precision, long, short }
    }

    pub fn noise(len: usize, seed: u64, precision: Precision) -> Tensor {
        Tensor::new(noise(len, seed), precision)
    }

    pub fn zeros(len: usize, precision: Precision) -> Tensor {
        Tensor::new(vec![0.0; len], precision)
    }

    pub fn values(&self) -> darkroom_kernels::Values<'_> {
        match self.precision {
            Precision::F32 => (&self.long).into(),
            Precision::Bf16 => (&self.short).into(),
        }
    }

    pub fn matrix(&self, rows: usize, cols: usize, stride: usize) -> Matrix<'_> {
        Matrix::strided(self.values(), rows, cols, stride)
    }

    pub fn matrix_mut(&mut self, rows: usize, cols: usize, stride: usize) -> MatrixMut<'_> {
        match self.precision {
            Precision::F32 => MatrixMut::strided(&mut self.long, rows, cols, stride),
            Precision::Bf16 => MatrixMut::strided(&mut self.short, rows, cols, stride),
        }
    }

    /// As f64, rounded to `arithmetic` as a kernel rounds its factors.
    pub fn exact(&self, index: usize, arithmetic: Precision) -> f64 {
        match arithmetic {
            Precision::F32 => f64::from(self.get(index)),
            Precision::Bf16 => bf16::from_f32(self.get(index)).to_f64(),
        }
    }

    pub fn get(&self, index: usize) -> f32 {
        match self.precision {
            Precision::F32 => self.long[index],
            Precision::Bf16 => self.short[index].to_f32(),
        }
    }

    /// The bits, for comparisons of identity.
    pub fn bits(&self) -> Vec<u32> {
        (0..self.long.len()).map(|i| self.get(i).to_bits()).collect()
    }
}

/// Checks one value: `scale` is the sum of the magnitudes that went into it.
pub fn check(found: f32, expected: f64, scale: f64, output: Precision, what: &dyn Fn() -> String) {
    let rounding = match output {
        Precision::F32 => 1e-7,
        Precision::Bf16 => 1.0 / 256.0,
    };
    let allowed = 4e-6 * scale + rounding * expected.abs() + 1e-6;
    let error = (f64::from(found) - expected).abs();
    assert!(error <= allowed, "{}: found {found}, expected {expected}, allowed {allowed:e}", what());
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// x · Φ(x), with Φ from the series of erf below 3 and from its continued fraction above.
pub fn gelu(x: f64) -> f64 {
    x * 0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// Abramowitz and Stegun 7.1.6 and 7.1.14.
pub fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 3.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > 1e-18 * sum {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum;
    }
    let fraction = (1..=200).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction
}

/// Runs `f` on a pool of `threads` threads.
pub fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Either precision, for proptest.
pub fn precision() -> impl proptest::strategy::Strategy<Value = Precision> {
    proptest::sample::select(vec![Precision::F32, Precision::Bf16])
}
