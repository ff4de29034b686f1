//! Sixteen lanes in a 512-bit register, with or without the bf16 instructions.

use crate::attention::weights::{self, Scores};
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

/// Rounds to bf16 in the upper half of each word, by integer arithmetic: half of the last kept bit, and the bit itself for ties, is
/// added. What the lower half holds is to be cut off.
#[inline(always)]
fn round_to_bf16(value: __m512) -> __m512i {
    // SAFETY: `Vector`'s contract: the CPU has these AVX-512 parts here.
    unsafe {
        let bits = _mm512_castps_si512(value);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
        _mm512_mask_blend_epi32(is_nan, rounded, quiet)
    }
}

/// Takes the two halves of a register of 16-bit values in turn.
const INTERLEAVE: [i16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = i as i16 / 2 + i as i16 % 2 * 16;
        i += 1;
    }
    order
};

/// Transposes the 4 × 4 blocks of four rows: word `4 h + c` of row `r` becomes word `4 h + r` of row `c`.
#[inline(always)]
fn transpose_blocks(a: __m512, b: __m512, c: __m512, d: __m512) -> [__m512; 4] {
    // SAFETY: the CPU has AVX-512 here.
    unsafe {
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let [ab_low, ab_high, cd_low, cd_high] =
            [_mm512_castps_pd(ab_low), _mm512_castps_pd(ab_high), _mm512_castps_pd(cd_low), _mm512_castps_pd(cd_high)];
        [
            _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low)),
            _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
        ]
    }
}

/// Sixteen rows of sixteen words: four rows at a time block by block, then the blocks change places.
#[inline(always)]
unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
    // SAFETY: the caller's promise about the rows; the CPU has AVX-512 here.
    unsafe {
        let zero = _mm512_setzero_ps();
        let mut rows = [[zero; 4]; 4];
        for (q, blocks) in rows.iter_mut().enumerate() {
            let row = from.add(4 * q * from_pitch);
            *blocks = transpose_blocks(
                _mm512_loadu_ps(row),
                _mm512_loadu_ps(row.add(from_pitch)),
                _mm512_loadu_ps(row.add(2 * from_pitch)),
                _mm512_loadu_ps(row.add(3 * from_pitch)),
            );
        }
        let [first, second, third, fourth] = rows;
        for (c, (((p, q), r), s)) in first.into_iter().zip(second).zip(third).zip(fourth).enumerate() {
            // Quarters 0 and 2, and 1 and 3, of two blocks each.
            let (pq_even, pq_odd) = (_mm512_shuffle_f32x4::<0x88>(p, q), _mm512_shuffle_f32x4::<0xdd>(p, q));
            let (rs_even, rs_odd) = (_mm512_shuffle_f32x4::<0x88>(r, s), _mm512_shuffle_f32x4::<0xdd>(r, s));
            let to = to.add(c * to_pitch);
            _mm512_storeu_ps(to, _mm512_shuffle_f32x4::<0x88>(pq_even, rs_even));
            _mm512_storeu_ps(to.add(4 * to_pitch), _mm512_shuffle_f32x4::<0x88>(pq_odd, rs_odd));
            _mm512_storeu_ps(to.add(8 * to_pitch), _mm512_shuffle_f32x4::<0xdd>(pq_even, rs_even));
            _mm512_storeu_ps(to.add(12 * to_pitch), _mm512_shuffle_f32x4::<0xdd>(pq_odd, rs_odd));
        }
    }
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
    fn fraction(self) -> __m512 {
        lanes!(_mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self))
    }

    #[inline(always)]
    fn scale_by_power(self, exponent: __m512) -> __m512 {
        lanes!(_mm512_scalef_ps(self, exponent))
    }

    #[inline(always)]
    fn any_less(self, other: __m512) -> bool {
        lanes!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, other) != 0)
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

    #[inline(always)]
    unsafe fn store_bf16(value: __m512, to: *mut u16) {
        lanes!(_mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(round_to_bf16(value)))))
    }

    #[inline(always)]
    fn pair_bf16(low: __m512, high: __m512) -> __m512 {
        lanes!({
            let high = _mm512_and_si512(round_to_bf16(high), _mm512_set1_epi32(0xffff_0000_u32 as i32));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32::<16>(round_to_bf16(low)), high))
        })
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        // SAFETY: passed on.
        unsafe { transpose(from, from_pitch, to, to_pitch) }
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
    fn pair_bf16(low: __m512, high: __m512) -> __m512 {
        lanes!({
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            let order = _mm512_loadu_si512(INTERLEAVE.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
        })
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        // SAFETY: passed on.
        unsafe { transpose(from, from_pitch, to, to_pitch) }
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
