//! Opening the CPU: its instructions, the precision, and the size of the process's thread pool.

use std::sync::Arc;

use darkroom_kernels::{Isa, Precision as Arithmetic};

use super::Cpu;
use super::arena::Arena;
use crate::compute::{ComputeOptions, ModelError, Precision};

impl Cpu {
    /// Opens the CPU in the precision asked for.
    ///
    /// # Errors
    /// [`ModelError::Device`] for f16, which CPUs do not compute in, or a `DARKROOM_ISA` that this one lacks.
    pub fn open(options: &ComputeOptions) -> Result<Self, ModelError> {
        let isa = Isa::from_env()
            .map_err(|error| ModelError::Device(format!("{}: {error}", darkroom_kernels::ISA_VARIABLE)))?;
        let precision = match options.precision.on(options.device) {
            Precision::Bf16 => Arithmetic::Bf16,
            Precision::F32 | Precision::Auto => Arithmetic::F32,
            Precision::F16 => {
                return Err(ModelError::Device(
                    "precision f16 is not available on a cpu: use bf16, f32 or auto".into(),
                ));
            }
        };
        size_thread_pool(options.threads);
        Ok(Self { isa, precision, arena: Arc::new(Arena::default()) })
    }
}

/// The kernels run on rayon's global pool, which a process can size once: all models share it.
fn size_thread_pool(threads: Option<usize>) {
    let Some(threads) = threads else { return };
    let sized = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().is_ok();
    if !sized && rayon::current_num_threads() != threads {
        tracing::warn!(
            asked = threads,
            running = rayon::current_num_threads(),
            "the thread pool runs already and keeps its size"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::Device;

    #[test]
    fn a_precision_that_cpus_lack_is_refused_with_those_they_have() {
        let options = ComputeOptions { device: Device::Cpu, precision: Precision::F16, threads: None };
        let refusal = Cpu::open(&options).map(drop).unwrap_err().to_string();
        assert_eq!(refusal, "precision f16 is not available on a cpu: use bf16, f32 or auto");
    }
}
