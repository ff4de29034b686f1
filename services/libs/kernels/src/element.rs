//! The two arithmetics: f32, and bf16 products accumulated in f32, both over 32-bit words.

use crate::simd::{Arch, Vector};
use crate::storage::Storage;
use half::bf16;

/// The arithmetic of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// bf16 factors, f32 sums.
    Bf16,
}

/// A factor of products. The reduction dimension is read in words of 32 bits: one f32, or two bf16.
pub(crate) trait Element: 'static {
    const PRECISION: Precision;
    /// Elements in a word.
    const PER_WORD: usize;
    /// How one is kept in memory.
    type Stored: Storage;

    /// `acc` plus the products of the words' elements.
    fn dot<A: Arch>(acc: A::V, a: A::V, b: A::V) -> A::V;
}

impl Element for f32 {
    const PRECISION: Precision = Precision::F32;
    const PER_WORD: usize = 1;
    type Stored = f32;

    #[inline(always)]
    fn dot<A: Arch>(acc: A::V, a: A::V, b: A::V) -> A::V {
        a.mul_add(b, acc)
    }
}

impl Element for bf16 {
    const PRECISION: Precision = Precision::Bf16;
    const PER_WORD: usize = 2;
    type Stored = u16;

    #[inline(always)]
    fn dot<A: Arch>(acc: A::V, a: A::V, b: A::V) -> A::V {
        A::dot_bf16(acc, a, b)
    }
}
