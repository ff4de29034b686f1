//! What this CPU can do at most: multiply-adds on registers alone, the yardstick of every benchmark.

use crate::element::{Element, Precision};
use crate::isa::Isa;
use crate::simd::{Arch, Kernel, Vector, dispatch};
use half::bf16;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Independent chains: enough to hide a latency of six cycles in two units, few enough for sixteen registers.
const CHAINS: usize = 14;
const ROUNDS: usize = 1 << 14;

struct Loop<E>(std::marker::PhantomData<E>);

impl<E: Element> Kernel for Loop<E> {
    type Output = f64;

    /// Runs the loop once and returns the floating-point operations it took.
    #[inline(always)]
    fn run<A: Arch>(self) -> f64 {
        let factor = A::V::splat(black_box(0.0));
        let mut chains = [A::V::splat(black_box(1.0)); CHAINS];
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = E::dot::<A>(*chain, factor, factor);
            }
        }
        black_box(chains.into_iter().map(A::V::sum).sum::<f32>());
        (2 * E::PER_WORD * A::V::LANES * CHAINS * ROUNDS) as f64
    }
}

/// Peak of `precision` on `isa` in FLOP/s, measured for about `time` on every thread of the current rayon pool at once and added up.
pub fn peak_flops(isa: Isa, precision: Precision, time: Duration) -> f64 {
    let one_thread = || {
        let start = Instant::now();
        let mut best = 0.0_f64;
        // The best slice of several, as neighbours on the machine only ever take away.
        while start.elapsed() < time {
            let slice = Instant::now();
            let mut operations = 0.0;
            for _ in 0..8 {
                operations += match precision {
                    Precision::F32 => dispatch(isa, Loop::<f32>(std::marker::PhantomData)),
                    Precision::Bf16 => dispatch(isa, Loop::<bf16>(std::marker::PhantomData)),
                };
            }
            best = best.max(operations / slice.elapsed().as_secs_f64());
        }
        best
    };
    rayon::broadcast(|_| one_thread()).into_iter().sum()
}
