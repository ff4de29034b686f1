//! Eight lanes in plain Rust: what every CPU runs, left to the compiler to vectorise.

use crate::attention::weights::{self, Scores};
use crate::element::Element;
use crate::tile::{self, Tile};

use super::{Arch, Vector};
use half::bf16;

/// No instruction set in particular.
pub(crate) struct Portable;

/// Eight f32 lanes.
#[derive(Clone, Copy)]
pub(crate) struct F32x8([f32; 8]);

impl F32x8 {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> F32x8 {
        F32x8(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: F32x8, f: impl Fn(f32, f32) -> f32) -> F32x8 {
        F32x8(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

// SAFETY: the pointer methods touch exactly the lanes the trait names, through unaligned reads and writes.
unsafe impl Vector for F32x8 {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> F32x8 {
        F32x8([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> F32x8 {
        // SAFETY: the caller lends eight readable values.
        F32x8(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller lends eight writable values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> F32x8 {
        // SAFETY: the caller lends eight readable values.
        let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        F32x8(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    fn add(self, other: F32x8) -> F32x8 {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: F32x8) -> F32x8 {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: F32x8) -> F32x8 {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: F32x8) -> F32x8 {
        self.zip(other, |a, b| a / b)
    }

    // Two roundings: without the instruction, `f32::mul_add` is a library call.
    #[inline(always)]
    fn mul_add(self, factor: F32x8, addend: F32x8) -> F32x8 {
        F32x8(std::array::from_fn(|i| self.0[i] * factor.0[i] + addend.0[i]))
    }

    #[inline(always)]
    fn max(self, other: F32x8) -> F32x8 {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: F32x8) -> F32x8 {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self) -> F32x8 {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn round(self) -> F32x8 {
        self.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn fraction(self) -> F32x8 {
        // Far below what a power of two can be, and finite.
        let finite = F32x8::splat(-1000.0).max(self);
        finite.map(|value| value - value.floor())
    }

    #[inline(always)]
    fn scale_by_power(self, exponent: F32x8) -> F32x8 {
        // At -127 the biased exponent is 0: the factor is zero.
        let whole = F32x8::splat(-127.0).max(exponent).map(f32::floor);
        self.zip(whole, |a, e| a * f32::from_bits(((e as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn any_less(self, other: F32x8) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| *a < b)
    }

    #[inline(always)]
    fn select_less(self, limit: F32x8, yes: F32x8, no: F32x8) -> F32x8 {
        F32x8(std::array::from_fn(|i| if self.0[i] < limit.0[i] { yes.0[i] } else { no.0[i] }))
    }

    #[inline(always)]
    fn bf16_low(self) -> F32x8 {
        self.map(|word| f32::from_bits(word.to_bits() << 16))
    }

    #[inline(always)]
    fn bf16_high(self) -> F32x8 {
        self.map(|word| f32::from_bits(word.to_bits() & 0xffff_0000))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

impl Arch for Portable {
    type V = F32x8;
    const MR: usize = 2;

    #[inline(always)]
    fn dot_bf16(acc: F32x8, a: F32x8, b: F32x8) -> F32x8 {
        a.bf16_high().mul_add(b.bf16_high(), a.bf16_low().mul_add(b.bf16_low(), acc))
    }

    #[inline(always)]
    unsafe fn store_bf16(value: F32x8, to: *mut u16) {
        // SAFETY: the caller lends eight writable values.
        unsafe { to.cast::<[u16; 8]>().write_unaligned(value.0.map(|value| bf16::from_f32(value).to_bits())) }
    }

    #[inline(always)]
    fn pair_bf16(low: F32x8, high: F32x8) -> F32x8 {
        let bits = |value: f32| u32::from(bf16::from_f32(value).to_bits());
        low.zip(high, |low, high| f32::from_bits(bits(high) << 16 | bits(low)))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        for row in 0..F32x8::LANES {
            for column in 0..F32x8::LANES {
                // SAFETY: the caller's promise about the rows.
                unsafe { to.add(column * to_pitch + row).write(from.add(row * from_pitch + column).read()) };
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<E: Element>(vectors: usize, tile: Tile<'_>) {
        // SAFETY: passed on.
        unsafe { tile::multiply_panel::<Self, E, { Self::MR }>(vectors, tile) }
    }

    #[inline(always)]
    unsafe fn weigh<E: Element>(vectors: usize, scores: &Scores) -> bool {
        // SAFETY: passed on.
        unsafe { weights::weigh_panel::<Self, E, { Self::MR }>(vectors, scores) }
    }
}
