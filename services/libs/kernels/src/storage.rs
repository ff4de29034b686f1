//! Registers loaded from and stored to f32 or bf16 memory, whole or in part.

use crate::simd::{Arch, Vector};

/// A format values are kept in: f32, or the bits of bf16.
pub(crate) trait Storage: Copy + Default {
    /// # Safety
    /// `LANES` values are readable at `from`.
    unsafe fn load<A: Arch>(from: *const Self) -> A::V;
    /// # Safety
    /// `LANES` values are writable at `to`.
    unsafe fn store<A: Arch>(value: A::V, to: *mut Self);
    /// The value as f32.
    fn widen(self) -> f32;
}

impl Storage for f32 {
    #[inline(always)]
    unsafe fn load<A: Arch>(from: *const f32) -> A::V {
        // SAFETY: the caller's promise.
        unsafe { A::V::load(from) }
    }

    #[inline(always)]
    unsafe fn store<A: Arch>(value: A::V, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { value.store(to) }
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Storage for u16 {
    #[inline(always)]
    unsafe fn load<A: Arch>(from: *const u16) -> A::V {
        // SAFETY: the caller's promise.
        unsafe { A::V::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn store<A: Arch>(value: A::V, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { A::store_bf16(value, to) }
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
}

/// No register is wider.
const MOST_LANES: usize = 16;

/// The first `count` values; lanes beyond are zero.
///
/// # Safety
/// `count ≤ LANES` values are readable at `from`.
#[inline(always)]
pub(crate) unsafe fn load<A: Arch, S: Storage>(from: *const S, count: usize) -> A::V {
    // SAFETY: the caller's promise; the buffer holds a register.
    unsafe {
        if count == A::V::LANES {
            return S::load::<A>(from);
        }
        let mut part = [S::default(); MOST_LANES];
        std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), count);
        S::load::<A>(part.as_ptr())
    }
}

/// Writes the first `count` lanes.
///
/// # Safety
/// `count ≤ LANES` values are writable at `to`.
#[inline(always)]
pub(crate) unsafe fn store<A: Arch, S: Storage>(value: A::V, to: *mut S, count: usize) {
    // SAFETY: the caller's promise; the buffer holds a register.
    unsafe {
        if count == A::V::LANES {
            return S::store::<A>(value, to);
        }
        let mut part = [S::default(); MOST_LANES];
        S::store::<A>(value, part.as_mut_ptr());
        std::ptr::copy_nonoverlapping(part.as_ptr(), to, count);
    }
}
