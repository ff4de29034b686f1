//! Sixteen lanes in a 512-bit register, with or without the bf16 instructions.

use crate::element::Element;
use crate::tile::{self, Tile};

use super::{Arch, Kernel, Vector};
use std::arch::x86_64::*;

/// AVX-512 F, BW, DQ and VL.
pub(crate) struct Avx512;

/// The same, with bf16 dot products and conversions.
pub(crate) struct Avx512Bf16;

/// Runs `kernel` with AVX-512 switched on.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Runs `kernel` with AVX-512 and its bf16 instructions switched on.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512Bf16>()
}

macro_rules! lanes {
    // SAFETY of every expansion: `Vector`'s contract says the CPU has these AVX-512 parts where these run.
    ($($intrinsic:expr)+) => { $(unsafe { $intrinsic })+ };
}

// SAFETY: the pointer methods touch exactly the lanes the trait names.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, at the macro
unsafe impl Vector for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(value: f32) -> __m512 {
        lanes!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        lanes!(_mm512_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        lanes!(_mm512_storeu_ps(to, self))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        lanes!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))))
    }

    #[inline(always)]
    fn add(self, other: __m512) -> __m512 {
        lanes!(_mm512_add_ps(self, other))
    }

    #[inline(always)]
    fn sub(self, other: __m512) -> __m512 {
        lanes!(_mm512_sub_ps(self, other))
    }

    #[inline(always)]
    fn mul(self, other: __m512) -> __m512 {
        lanes!(_mm512_mul_ps(self, other))
    }

    #[inline(always)]
    fn div(self, other: __m512) -> __m512 {
        lanes!(_mm512_div_ps(self, other))
    }

    #[inline(always)]
    fn mul_add(self, factor: __m512, addend: __m512) -> __m512 {
        lanes!(_mm512_fmadd_ps(self, factor, addend))
    }

    #[inline(always)]
    fn max(self, other: __m512) -> __m512 {
        lanes!(_mm512_max_ps(self, other))
    }

    #[inline(always)]
    fn min(self, other: __m512) -> __m512 {
        lanes!(_mm512_min_ps(self, other))
    }

    #[inline(always)]
    fn abs(self) -> __m512 {
        lanes!(_mm512_abs_ps(self))
    }

    #[inline(always)]
    fn round(self) -> __m512 {
        lanes!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self))
    }

    #[inline(always)]
    fn scale_by_power(self, exponent: __m512) -> __m512 {
        lanes!(_mm512_scalef_ps(self, exponent))
    }

    #[inline(always)]
    fn select_less(self, limit: __m512, yes: __m512, no: __m512) -> __m512 {
        lanes!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, limit), no, yes))
    }

    #[inline(always)]
    fn bf16_low(self) -> __m512 {
        lanes!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self))))
    }

    #[inline(always)]
    fn bf16_high(self) -> __m512 {
        lanes!(_mm512_and_ps(self, _mm512_castsi512_ps(_mm512_set1_epi32(0xffff_0000_u32 as i32))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        lanes!(_mm512_reduce_add_ps(self))
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        lanes!(_mm512_reduce_max_ps(self))
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said once, at the macro
impl Arch for Avx512 {
    type V = __m512;
    // 8 × 3 accumulators, 3 columns and the broadcasts fit the 32 registers; picture widths are multiples of 8.
    const MR: usize = 8;

    #[inline(always)]
    fn dot_bf16(acc: __m512, a: __m512, b: __m512) -> __m512 {
        a.bf16_high().mul_add(b.bf16_high(), a.bf16_low().mul_add(b.bf16_low(), acc))
    }

    // In integer arithmetic: half of the last kept bit, and the bit itself for ties, is added and cut off.
    #[inline(always)]
    unsafe fn store_bf16(value: __m512, to: *mut u16) {
        lanes!({
            let bits = _mm512_castps_si512(value);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
            let words = _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(is_nan, rounded, quiet));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(words))
        })
    }

    #[inline(always)]
    unsafe fn multiply<E: Element>(vectors: usize, tile: Tile<'_>) {
        // SAFETY: passed on.
        unsafe { tile::multiply_panel::<Self, E, { Self::MR }>(vectors, tile) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said once, at the macro
impl Arch for Avx512Bf16 {
    type V = __m512;
    const MR: usize = Avx512::MR;

    #[inline(always)]
    fn dot_bf16(acc: __m512, a: __m512, b: __m512) -> __m512 {
        // The transmutes name the same 512 bits.
        lanes!(_mm512_dpbf16_ps(
            acc,
            std::mem::transmute::<__m512, __m512bh>(a),
            std::mem::transmute::<__m512, __m512bh>(b)
        ))
    }

    #[inline(always)]
    unsafe fn store_bf16(value: __m512, to: *mut u16) {
        lanes!(_mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value))))
    }

    #[inline(always)]
    unsafe fn multiply<E: Element>(vectors: usize, tile: Tile<'_>) {
        // SAFETY: passed on.
        unsafe { tile::multiply_panel::<Self, E, { Self::MR }>(vectors, tile) }
    }
}
