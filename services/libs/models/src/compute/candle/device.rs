//! Opening a device in a precision that it has, and sizing the process's thread pool.

use candle_core::{DType, Device as CandleDevice};

use super::Candle;
use crate::compute::{ComputeOptions, Device, ModelError, Precision};

impl Candle {
    /// Opens the device.
    ///
    /// # Errors
    /// [`ModelError::Device`] when this build has no code for the device, the machine lacks it, or it lacks the precision.
    pub fn open(options: &ComputeOptions) -> Result<Self, ModelError> {
        let precision = options.precision.on(options.device);
        let dtype = match precision {
            Precision::F32 | Precision::Auto => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        };
        let device = match options.device {
            Device::Cpu if dtype != DType::F32 => {
                let problem = format!("precision {precision} is not available on a cpu: use f32 or auto");
                return Err(ModelError::Device(problem));
            }
            Device::Cpu => {
                size_thread_pool(options.threads);
                CandleDevice::Cpu
            }
            Device::Cuda(index) if cfg!(feature = "cuda") => {
                CandleDevice::new_cuda(index).map_err(|error| unavailable(options.device, &error))?
            }
            Device::Metal if cfg!(feature = "metal") => {
                CandleDevice::new_metal(0).map_err(|error| unavailable(options.device, &error))?
            }
            Device::Cuda(_) => return Err(not_compiled_in(options.device, "cuda")),
            Device::Metal => return Err(not_compiled_in(options.device, "metal")),
        };
        Ok(Self { device, dtype })
    }
}

fn not_compiled_in(device: Device, feature: &str) -> ModelError {
    ModelError::Device(format!("device {device} is not in this build: build with --features {feature}, or use cpu"))
}

fn unavailable(device: Device, error: &candle_core::Error) -> ModelError {
    ModelError::Device(format!("device {device} cannot be opened: {error}"))
}

/// candle and its matrix product run on rayon's global pool, which a process can size once: all models share it.
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

    fn refusal(device: Device, precision: Precision) -> String {
        Candle::open(&ComputeOptions { device, precision, threads: None }).unwrap_err().to_string()
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_was_not_compiled_in_says_how_to_get_it() {
        assert_eq!(
            refusal(Device::Cuda(0), Precision::Auto),
            "device cuda:0 is not in this build: build with --features cuda, or use cpu"
        );
    }

    #[test]
    fn half_precision_on_a_cpu_is_refused() {
        assert_eq!(refusal(Device::Cpu, Precision::Bf16), "precision bf16 is not available on a cpu: use f32 or auto");
    }
}
