//! PyTorch's normal noise on the CPU, so that a seed gives the latents that the reference gives.
//!
//! `torch.randn` has two ways. Sixteen values and more come from f32 uniforms in blocks of sixteen, the first half of a block
//! making the radii and the second the angles of Box and Muller's transform; when the count is no multiple of sixteen, the
//! last sixteen values are drawn anew over what stands there. Fewer values come one by one from f64 uniforms, two at a time,
//! and a second one that is left over waits for the next such call.

use std::f32::consts::PI;

use super::mt19937::Mt19937;

/// Values that are transformed together, and the count from which that is done.
const BLOCK: usize = 16;

/// Draws what `torch.randn(n, generator=torch.Generator().manual_seed(seed))` draws, call after call, within 2e-6: PyTorch's
/// vectorised logarithm and sine round otherwise on different processors.
#[derive(Clone)]
pub(super) struct CpuGenerator {
    engine: Mt19937,
    /// The second value of a pair of which only the first was wanted.
    left_over: Option<f64>,
}

impl CpuGenerator {
    /// A generator at its start. PyTorch's engine takes the lower 32 bits of a seed, so seeds that differ above give the
    /// same noise.
    pub(super) fn new(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed as u32), left_over: None }
    }

    /// The next values of unit normal noise: one call of `torch.randn`.
    pub(super) fn fill(&mut self, values: &mut [f32]) {
        if values.len() < BLOCK {
            values.iter_mut().for_each(|value| *value = self.next_normal() as f32);
            return;
        }
        values.iter_mut().for_each(|value| *value = self.next_uniform());
        let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty()
            && let Some(last) = values.last_chunk_mut::<BLOCK>()
        {
            last.iter_mut().for_each(|value| *value = self.next_uniform());
            box_muller(last);
        }
    }

    /// Passes over one call with `n` values, at a fraction of its cost.
    pub(super) fn skip(&mut self, n: usize) {
        if n < BLOCK {
            // Cheap already, and what is left over must be known.
            for _ in 0..n {
                self.next_normal();
            }
        } else {
            self.engine.skip(if n.is_multiple_of(BLOCK) { n } else { n + BLOCK });
        }
    }

    /// 24 random bits in `[0, 1)`.
    fn next_uniform(&mut self) -> f32 {
        (self.engine.next_u32() & 0x00ff_ffff) as f32 / (1 << 24) as f32
    }

    /// 53 random bits in `[0, 1)`; the first word is the upper half.
    fn next_uniform_f64(&mut self) -> f64 {
        let (high, low) = (u64::from(self.engine.next_u32()), u64::from(self.engine.next_u32()));
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }

    fn next_normal(&mut self) -> f64 {
        if let Some(value) = self.left_over.take() {
            return value;
        }
        let angle = 2.0 * std::f64::consts::PI * self.next_uniform_f64();
        let radius = (-2.0 * (-self.next_uniform_f64()).ln_1p()).sqrt();
        self.left_over = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Box and Muller's transform of sixteen uniforms to sixteen normals, in f32 as PyTorch does it.
fn box_muller(block: &mut [f32; BLOCK]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        // `1 − u` is never 0, where the logarithm would be infinite.
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        let angle = 2.0 * PI * *b;
        (*a, *b) = (radius * angle.cos(), radius * angle.sin());
    }
}
