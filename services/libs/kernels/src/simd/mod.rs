//! Vectors of f32 behind one trait, so that each kernel is written once and compiled for every instruction set.
//!
//! A kernel is a [`Kernel`] whose `run` is generic over an [`Arch`]; [`dispatch`] calls it inside a function that has the
//! CPU features switched on. Everything on the way must be `#[inline(always)]`: a function that is not inlined there
//! would be compiled without them and be slow (never wrong). Closures handed to the standard library are such functions where it does not
//! inline them (a long one in `array::from_fn`, one before `collect`): a loop is safe.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::attention::weights::Scores;
use crate::element::Element;
use crate::isa::{Isa, Level};
use crate::tile::Tile;

/// A register of f32 lanes.
///
/// # Safety
/// Pointer methods read or write exactly `LANES` values, of any alignment. All methods need the CPU features of the
/// [`Arch`] they belong to: they are only called from a [`Kernel`] under [`dispatch`].
pub(crate) unsafe trait Vector: Copy {
    /// Values in a register.
    const LANES: usize;

    fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// bf16 values (as their bits), widened.
    unsafe fn load_bf16(from: *const u16) -> Self;

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · factor + addend`, with one rounding where the CPU has it.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger, or `other` when one is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller, or `other` when one is NaN.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// To the nearest whole number, ties to even.
    fn round(self) -> Self;
    /// What is above the next whole number below: `self - ⌊self⌋`, and 0 for -∞.
    fn fraction(self) -> Self;
    /// `self · 2^⌊exponent⌋` for exponents below 128; less than every normal number where they are below -126.
    fn scale_by_power(self, exponent: Self) -> Self;
    /// Whether any lane is less than the other's.
    fn any_less(self, other: Self) -> bool;
    /// `if self < limit { yes } else { no }` in each lane.
    fn select_less(self, limit: Self, yes: Self, no: Self) -> Self;
    /// The even (first) bf16 of every 32-bit word, widened.
    fn bf16_low(self) -> Self;
    /// The odd (second) bf16 of every 32-bit word, widened.
    fn bf16_high(self) -> Self;

    /// All lanes added, halves first.
    fn sum(self) -> f32;
}

/// An instruction set: its register, its tile, and the two operations that only some have.
pub(crate) trait Arch: 'static {
    /// The register of this instruction set.
    type V: Vector;
    /// Rows of a micro-kernel tile: with three registers a row the accumulators fill the register file.
    const MR: usize;

    /// `acc + a.low · b.low + a.high · b.high` over words of two bf16.
    fn dot_bf16(acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Rounds to bf16 (ties to even, NaN stays NaN) and writes the bits.
    ///
    /// # Safety
    /// As [`Vector`]: `LANES` values are written at `to`.
    unsafe fn store_bf16(value: Self::V, to: *mut u16);
    /// Both rounded as by [`Arch::store_bf16`], as words: `low`'s values first.
    fn pair_bf16(low: Self::V, high: Self::V) -> Self::V;
    /// Transposes `LANES` rows of `LANES` words, whose rows start `from_pitch` and `to_pitch` words apart.
    ///
    /// # Safety
    /// The rows are readable and writable, and do not overlap.
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize);
    /// The micro-kernel with `MR` rows and `vectors` registers of columns.
    ///
    /// # Safety
    /// As [`crate::tile::multiply`].
    unsafe fn multiply<E: Element>(vectors: usize, tile: Tile<'_>);
    /// Attention's weights of `MR` keys for `vectors` registers of queries.
    ///
    /// # Safety
    /// As [`crate::attention::weights::weigh`].
    unsafe fn weigh<E: Element>(vectors: usize, scores: &Scores) -> bool;
}

/// Work that is compiled once for every instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Implementations are `#[inline(always)]`.
    fn run<A: Arch>(self) -> Self::Output;
}

/// Runs `kernel` with the instructions of `isa`.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.level() {
        Level::Portable => kernel.run::<portable::Portable>(),
        // SAFETY: an `Isa` exists only for levels that this CPU supports.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::run(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::run(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 => unsafe { avx512::run_bf16(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => kernel.run::<portable::Portable>(),
    }
}
