//! Functions of one value applied to whole slices, and the softmax of a row.

use crate::isa::Isa;
use crate::math;
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::storage::{load, store};

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// e^x.
    Exp,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// x · sigmoid(x).
    Silu,
    /// x · sigmoid(1.702 x).
    QuickGelu,
    /// x · Φ(x).
    Gelu,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 5] =
        [Function::Exp, Function::Sigmoid, Function::Silu, Function::QuickGelu, Function::Gelu];
}

/// Replaces each value by the function of it.
pub fn apply(isa: Isa, function: Function, values: &mut [f32]) {
    dispatch(isa, Apply { function, values });
}

/// Adds `other` to `values`.
///
/// # Panics
/// Their lengths differ.
pub fn add(isa: Isa, values: &mut [f32], other: &[f32]) {
    assert_eq!(values.len(), other.len(), "lengths");
    dispatch(isa, Add { values, other });
}

/// Replaces `values` by e^value over the sum of these.
pub fn softmax(isa: Isa, values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value -= largest);
    apply(isa, Function::Exp, values);
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    let factor = (1.0 / sum) as f32;
    values.iter_mut().for_each(|value| *value *= factor);
}

struct Apply<'a> {
    function: Function,
    values: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        match self.function {
            Function::Exp => map::<A>(self.values, math::exp),
            Function::Sigmoid => map::<A>(self.values, math::sigmoid),
            Function::Silu => map::<A>(self.values, math::silu),
            Function::QuickGelu => map::<A>(self.values, math::quick_gelu),
            Function::Gelu => map::<A>(self.values, math::gelu),
        }
    }
}

#[inline(always)]
fn map<A: Arch>(values: &mut [f32], f: impl Fn(A::V) -> A::V) {
    for part in values.chunks_mut(A::V::LANES) {
        // SAFETY: a part has at most a register's values.
        unsafe { store::<A, f32>(f(load::<A, f32>(part.as_ptr(), part.len())), part.as_mut_ptr(), part.len()) }
    }
}

struct Add<'a> {
    values: &'a mut [f32],
    other: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        for (part, other) in self.values.chunks_mut(A::V::LANES).zip(self.other.chunks(A::V::LANES)) {
            // SAFETY: parts of equal length have at most a register's values.
            unsafe {
                let sum = load::<A, f32>(part.as_ptr(), part.len()).add(load::<A, f32>(other.as_ptr(), part.len()));
                store::<A, f32>(sum, part.as_mut_ptr(), part.len());
            }
        }
    }
}
