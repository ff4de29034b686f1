//! PyTorch's normal noise, so that a seed gives the latents that the reference gives, on a CPU or on a GPU.

mod cpu;
mod mt19937;
mod philox;
mod variation;

use cpu::CpuGenerator;
use philox::CudaGenerator;
pub use variation::vary;

/// Whose noise a seed stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rng {
    /// `torch.Generator("cpu")`. Its engine takes the lower 32 bits of a seed: seeds that differ above give the same noise.
    #[default]
    Cpu,
    /// `torch.Generator("cuda")`, whatever this runs on.
    Cuda,
}

/// Draws what `torch.randn(n, generator=torch.Generator(rng).manual_seed(seed))` draws, call after call, within 2e-6: PyTorch's
/// logarithm and sine round otherwise on different processors.
#[derive(Clone)]
pub struct Generator(Kind);

#[derive(Clone)]
enum Kind {
    // The Mersenne Twister's state is 2.5 KB.
    Cpu(Box<CpuGenerator>),
    Cuda(CudaGenerator),
}

impl Generator {
    /// A generator at its start.
    #[must_use]
    pub fn new(rng: Rng, seed: u64) -> Self {
        Self(match rng {
            Rng::Cpu => Kind::Cpu(Box::new(CpuGenerator::new(seed))),
            Rng::Cuda => Kind::Cuda(CudaGenerator::new(seed)),
        })
    }

    /// The next `n` values of unit normal noise: one call of `torch.randn`.
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        let mut values = vec![0.0; n];
        self.fill(&mut values);
        values
    }

    /// As [`Generator::randn`], into `values`.
    pub fn fill(&mut self, values: &mut [f32]) {
        match &mut self.0 {
            Kind::Cpu(generator) => generator.fill(values),
            Kind::Cuda(generator) => generator.fill(values),
        }
    }

    /// Passes over one call of [`Generator::randn`] with this `n`, at a fraction of its cost: how a request that goes on
    /// after an interruption reaches its next draw.
    pub fn skip(&mut self, n: usize) {
        match &mut self.0 {
            Kind::Cpu(generator) => generator.skip(n),
            Kind::Cuda(generator) => generator.skip(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_a_call_is_making_it_without_looking() {
        for rng in [Rng::Cpu, Rng::Cuda] {
            for sizes in [vec![16], vec![17], vec![5], vec![5, 17, 2, 1], vec![64, 1000, 3]] {
                let (mut drawn, mut skipped) = (Generator::new(rng, 9), Generator::new(rng, 9));
                for &n in &sizes {
                    drawn.randn(n);
                    skipped.skip(n);
                }
                assert_eq!(drawn.randn(3), skipped.randn(3), "{rng:?} {sizes:?}");
                assert_eq!(drawn.randn(40), skipped.randn(40), "{rng:?} {sizes:?}");
            }
        }
    }
}
