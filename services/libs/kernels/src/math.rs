//! Powers, sigmoid, SiLU, quick-GELU and GELU on registers.

use crate::simd::Vector;

/// Below this, e^x is not a normal f32; it counts as zero, so that masked scores of -∞ vanish.
const EXP_LOWEST: f32 = -87.336_54;
/// Above this the result stays at e^88.37 = 2.4e38, so that 2^n stays finite.
const EXP_HIGHEST: f32 = 88.376;

/// Taylor coefficients of e^r after 1 + r, highest first: |r| ≤ ln 2 / 2 leaves 1/8! · 0.35⁸ < 6e-9.
const EXP_SERIES: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];

/// e^x = 2^n · e^r with n = round(x / ln 2): about 1 ulp.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: V) -> V {
    // In this order NaN passes: `max` and `min` give their second value when the two cannot be compared.
    let clamped = V::splat(EXP_HIGHEST).min(V::splat(EXP_LOWEST).max(x));
    let n = clamped.mul(V::splat(std::f32::consts::LOG2_E)).round();
    // ln 2 in two parts (Cody and Waite): the first has nine trailing zero bits, so n · part is exact.
    let r = n.mul_add(V::splat(-0.693_359_4), clamped);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    let mut series = V::splat(EXP_SERIES[0]);
    for &coefficient in &EXP_SERIES[1..] {
        series = series.mul_add(r, V::splat(coefficient));
    }
    let series = series.mul(r).mul_add(r, r).add(V::splat(1.0));
    x.select_less(V::splat(EXP_LOWEST), V::splat(0.0), series.scale_by_power(n))
}

/// 2^f for 0 ≤ f < 1, highest power first: minimax in relative error, below 8e-8 (Remez).
const EXP2_SERIES: [f32; 6] = [0.001_877_576_7, 0.008_989_34, 0.055_826_318, 0.240_153_61, 0.693_153_1, 0.999_999_94];

/// The same, below 8e-5: a twentieth of what bf16 rounds off.
const EXP2_SERIES_BF16: [f32; 4] = [0.078_024_52, 0.226_067_16, 0.695_833_56, 0.999_925_2];

/// 2^x for x < 128, by the series of its fraction; 0 where it is less than every normal number by far.
#[inline(always)]
fn power_of_two<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let fraction = x.fraction();
    let mut series = V::splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        series = series.mul_add(fraction, V::splat(coefficient));
    }
    series.scale_by_power(x)
}

/// 2^x for x < 128: about 1 ulp.
#[inline(always)]
pub(crate) fn exp2<V: Vector>(x: V) -> V {
    power_of_two(x, EXP2_SERIES)
}

/// 2^x for x < 128, for results in bf16.
#[inline(always)]
pub(crate) fn exp2_bf16<V: Vector>(x: V) -> V {
    power_of_two(x, EXP2_SERIES_BF16)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
}

/// x · sigmoid(x).
#[inline(always)]
pub(crate) fn silu<V: Vector>(x: V) -> V {
    x.mul(sigmoid(x))
}

/// x · sigmoid(1.702 x), CLIP's activation.
#[inline(always)]
pub(crate) fn quick_gelu<V: Vector>(x: V) -> V {
    x.mul(sigmoid(x.mul(V::splat(1.702))))
}

/// erfc(z) · e^(z²) = t · P(t) with t = 1 / (1 + z / 2), highest power first: fitted by least squares at Chebyshev nodes of
/// t over 0 ≤ z ≤ 10 in double precision, relative error below 6e-8.
const ERFC: [f32; 9] = [
    -0.060_108_706,
    0.289_446_12,
    -0.496_829_57,
    0.288_515_15,
    -0.033_399_02,
    0.205_360_43,
    0.242_479_38,
    0.282_453_84,
    0.282_082_35,
];

/// erfc(z) for z ≥ 0, relatively accurate down to where it underflows.
#[inline(always)]
fn erfc<V: Vector>(z: V) -> V {
    let one = V::splat(1.0);
    let t = one.div(z.mul_add(V::splat(0.5), one));
    let mut series = V::splat(ERFC[0]);
    for &coefficient in &ERFC[1..] {
        series = series.mul_add(t, V::splat(coefficient));
    }
    series.mul(t).mul(exp(V::splat(0.0).sub(z.mul(z))))
}

/// x · Φ(x), the exact GELU: Φ(x) = erfc(-x / √2) / 2, by the half that loses no digits.
#[inline(always)]
pub(crate) fn gelu<V: Vector>(x: V) -> V {
    let tail = V::splat(0.5).mul(erfc(x.abs().mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))));
    let zero = V::splat(0.0);
    x.mul(x.select_less(zero, tail, V::splat(1.0).sub(tail)))
}

/// (Φ(x) - ½) / x in powers of x², highest first, for |x| ≤ 4.2: minimax in x · series, error below 8e-6.
const PHI: [f32; 9] = [
    5.998_756_4e-11,
    -5.633_892e-9,
    2.343_871_2e-7,
    -5.761_128e-6,
    9.457_815e-5,
    -0.001_114_170_6,
    0.009_830_207,
    -0.066_360_496,
    0.398_907_48,
];

/// x · Φ(x) for results in bf16, without exponential or division: within 1.4e-5 · max(1, |x|), a hundredth of what bf16 rounds off
/// typical values.
#[inline(always)]
pub(crate) fn gelu_bf16<V: Vector>(x: V) -> V {
    let limit = V::splat(4.2);
    let z = limit.min(V::splat(-4.2).max(x));
    let square = z.mul(z);
    let mut series = V::splat(PHI[0]);
    for &coefficient in &PHI[1..] {
        series = series.mul_add(square, V::splat(coefficient));
    }
    x.mul(series.mul_add(z, V::splat(0.5)))
}
