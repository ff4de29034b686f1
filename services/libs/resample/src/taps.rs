//! What one pixel of the result is made of: weights of neighbours, in Pillow's fixed point.

/// Bits behind the point: a sum of weights times a byte fits into 32 bits, and so do overshoots.
const PRECISION: u32 = 32 - 8 - 2;
/// What sums begin with, so that cutting the bits behind the point rounds.
pub(crate) const HALF: i32 = 1 << (PRECISION - 1);

/// How neighbours are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// A sinc under a sinc of three lobes: PIL's `LANCZOS`.
    Lanczos,
    /// Keys' cubic convolution with a = −0.5, the one of Catmull and Rom: PIL's `BICUBIC`.
    Bicubic,
}

impl Kernel {
    /// How far it reaches, in pixels of the larger picture.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => LOBES,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Lanczos => lanczos(x),
            Self::Bicubic => cubic(x),
        }
    }

    /// What pixel `at` of `output` is made of, when there were `input` before. When a picture gets smaller the kernel is stretched.
    pub(crate) fn taps(self, input: usize, output: usize, at: usize) -> Taps {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let centre = (at as f64 + 0.5) * scale;
        let reach = self.support() * stretch;
        // Cut towards zero, as C does, then kept inside.
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(input);
        let weight = |at: usize| self.at((at as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
        Taps { first, weights: weights.iter().map(fixed).collect() }
    }
}

/// What one pixel is made of.
pub(crate) struct Taps {
    /// The first input pixel.
    pub(crate) first: usize,
    pub(crate) weights: Vec<i32>,
}

/// A sum that began with [`HALF`], as a byte.
pub(crate) fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const LOBES: f64 = 3.0;

fn lanczos(x: f64) -> f64 {
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
