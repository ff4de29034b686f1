//! Eight lanes in a 256-bit register, with fused multiply-add.

use crate::attention::weights::{self, Scores};
use crate::element::Element;
use crate::tile::{self, Tile};

use super::{Arch, Kernel, Vector};
use std::arch::x86_64::*;

/// AVX2 and FMA.
pub(crate) struct Avx2;

/// Runs `kernel` with AVX2 and FMA switched on.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// Rounds to bf16 in the upper half of each word, by integer arithmetic: half of the last kept bit, and the bit itself for ties, is
/// added. What the lower half holds is to be cut off.
#[inline(always)]
fn round_to_bf16(value: __m256) -> __m256i {
    // SAFETY: `Vector`'s contract: the CPU has AVX2 here.
    unsafe {
        let bits = _mm256_castps_si256(value);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(value, value));
        _mm256_blendv_epi8(rounded, quiet, is_nan)
    }
}

/// Transposes the 4 × 4 blocks of four rows: word `4 h + c` of row `r` becomes word `4 h + r` of row `c`.
#[inline(always)]
fn transpose_blocks(a: __m256, b: __m256, c: __m256, d: __m256) -> [__m256; 4] {
    // SAFETY: the CPU has AVX2 here.
    unsafe {
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let [ab_low, ab_high, cd_low, cd_high] =
            [_mm256_castps_pd(ab_low), _mm256_castps_pd(ab_high), _mm256_castps_pd(cd_low), _mm256_castps_pd(cd_high)];
        [
            _mm256_castpd_ps(_mm256_unpacklo_pd(ab_low, cd_low)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(ab_low, cd_low)),
            _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high)),
        ]
    }
}

macro_rules! lanes {
    // SAFETY of every expansion: `Vector`'s contract says the CPU has AVX2 and FMA where these run.
    ($($intrinsic:expr)+) => { $(unsafe { $intrinsic })+ };
}

// SAFETY: the pointer methods touch exactly the lanes the trait names.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, at the macro
unsafe impl Vector for __m256 {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> __m256 {
        lanes!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        lanes!(_mm256_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        lanes!(_mm256_storeu_ps(to, self))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m256 {
        lanes!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))))
    }

    #[inline(always)]
    fn add(self, other: __m256) -> __m256 {
        lanes!(_mm256_add_ps(self, other))
    }

    #[inline(always)]
    fn sub(self, other: __m256) -> __m256 {
        lanes!(_mm256_sub_ps(self, other))
    }

    #[inline(always)]
    fn mul(self, other: __m256) -> __m256 {
        lanes!(_mm256_mul_ps(self, other))
    }

    #[inline(always)]
    fn div(self, other: __m256) -> __m256 {
        lanes!(_mm256_div_ps(self, other))
    }

    #[inline(always)]
    fn mul_add(self, factor: __m256, addend: __m256) -> __m256 {
        lanes!(_mm256_fmadd_ps(self, factor, addend))
    }

    #[inline(always)]
    fn max(self, other: __m256) -> __m256 {
        lanes!(_mm256_max_ps(self, other))
    }

    #[inline(always)]
    fn min(self, other: __m256) -> __m256 {
        lanes!(_mm256_min_ps(self, other))
    }

    #[inline(always)]
    fn abs(self) -> __m256 {
        lanes!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self))
    }

    #[inline(always)]
    fn round(self) -> __m256 {
        lanes!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self))
    }

    #[inline(always)]
    fn fraction(self) -> __m256 {
        lanes!({
            // Far below what a power of two can be, and finite.
            let finite = _mm256_max_ps(_mm256_set1_ps(-1000.0), self);
            _mm256_sub_ps(finite, _mm256_floor_ps(finite))
        })
    }

    #[inline(always)]
    fn scale_by_power(self, exponent: __m256) -> __m256 {
        lanes!({
            // At -127 the biased exponent is 0: the factor is zero.
            let whole = _mm256_floor_ps(_mm256_max_ps(_mm256_set1_ps(-127.0), exponent));
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
            _mm256_mul_ps(self, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        })
    }

    #[inline(always)]
    fn any_less(self, other: __m256) -> bool {
        lanes!(_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(self, other)) != 0)
    }

    #[inline(always)]
    fn select_less(self, limit: __m256, yes: __m256, no: __m256) -> __m256 {
        lanes!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(self, limit)))
    }

    #[inline(always)]
    fn bf16_low(self) -> __m256 {
        lanes!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self))))
    }

    #[inline(always)]
    fn bf16_high(self) -> __m256 {
        lanes!(_mm256_and_ps(self, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        lanes!({
            let four = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said once, at the macro
impl Arch for Avx2 {
    type V = __m256;
    // 4 × 3 accumulators, 3 columns and a broadcast are the 16 registers.
    const MR: usize = 4;

    #[inline(always)]
    fn dot_bf16(acc: __m256, a: __m256, b: __m256) -> __m256 {
        a.bf16_high().mul_add(b.bf16_high(), a.bf16_low().mul_add(b.bf16_low(), acc))
    }

    #[inline(always)]
    unsafe fn store_bf16(value: __m256, to: *mut u16) {
        lanes!({
            let words = _mm256_srli_epi32::<16>(round_to_bf16(value));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(words, words));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed))
        })
    }

    #[inline(always)]
    fn pair_bf16(low: __m256, high: __m256) -> __m256 {
        lanes!({
            let high = _mm256_and_si256(round_to_bf16(high), _mm256_set1_epi32(0xffff_0000_u32 as i32));
            _mm256_castsi256_ps(_mm256_or_si256(_mm256_srli_epi32::<16>(round_to_bf16(low)), high))
        })
    }

    // Four rows at a time block by block, then the halves of registers change places.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        lanes!({
            let mut rows = [[_mm256_setzero_ps(); 4]; 2];
            for (q, blocks) in rows.iter_mut().enumerate() {
                let row = from.add(4 * q * from_pitch);
                *blocks = transpose_blocks(
                    _mm256_loadu_ps(row),
                    _mm256_loadu_ps(row.add(from_pitch)),
                    _mm256_loadu_ps(row.add(2 * from_pitch)),
                    _mm256_loadu_ps(row.add(3 * from_pitch)),
                );
            }
            let [upper, lower] = rows;
            for (c, (p, q)) in upper.into_iter().zip(lower).enumerate() {
                _mm256_storeu_ps(to.add(c * to_pitch), _mm256_permute2f128_ps::<0x20>(p, q));
                _mm256_storeu_ps(to.add((4 + c) * to_pitch), _mm256_permute2f128_ps::<0x31>(p, q));
            }
        })
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
