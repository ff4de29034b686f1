//! Opening a GPU in a precision.

use candle_core::{DType, Device as CandleDevice};

use super::Candle;
use crate::compute::{ComputeOptions, Device, ModelError, Precision};

impl Candle {
    /// Opens the device.
    ///
    /// # Errors
    /// [`ModelError::Device`] when this build has no code for the device or the machine lacks it.
    pub fn open(options: &ComputeOptions) -> Result<Self, ModelError> {
        let dtype = match options.precision.on(options.device) {
            Precision::F32 | Precision::Auto => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        };
        let device = match options.device {
            // candle's CPU is slow and serves the tests alone: models run on `compute::cpu`.
            Device::Cpu => CandleDevice::Cpu,
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
}
