//! Where and in what precision a model computes, as people write it on a command line.

use std::fmt;
use std::str::FromStr;

use darkroom_kernels::Isa;

/// How a model is loaded for computing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComputeOptions {
    /// Where to compute.
    pub device: Device,
    /// In what precision weights and activations are kept.
    pub precision: Precision,
    /// CPU threads, shared by all models of the process; absent is one for each that the system has.
    pub threads: Option<usize>,
}

/// A place to compute: `cpu`, `cuda:N` or `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this index; needs a build with the feature `cuda`.
    Cuda(usize),
    /// The Apple GPU; needs a build with the feature `metal`.
    Metal,
}

/// The number format of weights and activations. Statistics (norms, softmax) are f32 in every precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats: the precision in which results are compared with the reference.
    F32,
    /// bfloat16 for the factors of products, f32 for sums; on a CPU the residual stream is f32 as well.
    Bf16,
    /// IEEE half precision, on GPUs.
    F16,
    /// What the device is best at within the accuracy that Darkroom promises: bf16 on CUDA and on CPUs with instructions
    /// for it, else f32.
    #[default]
    Auto,
}

impl Precision {
    /// The precision that is meant on `device`: itself, unless it is [`Precision::Auto`].
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        match (self, device) {
            (Self::Auto, Device::Cuda(_)) => Self::Bf16,
            (Self::Auto, Device::Cpu) if Isa::from_env().is_ok_and(Isa::has_bf16) => Self::Bf16,
            (Self::Auto, _) => Self::F32,
            (chosen, _) => chosen,
        }
    }
}

/// A device by a name that none has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {0:?}: use cpu, cuda, cuda:N or metal")]
pub struct UnknownDevice(String);

/// A precision by a name that none has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision {0:?}: use f32 (full), bf16, f16 or auto (autocast)")]
pub struct UnknownPrecision(String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| UnknownDevice(name.to_owned())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// `full` and `autocast` are the names of the reference script's `--precision`.
impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "f32" | "full" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "auto" | "autocast" => Ok(Self::Auto),
            _ => Err(UnknownPrecision(name.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Auto => "auto",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3), Device::Metal] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for precision in [Precision::F32, Precision::Bf16, Precision::F16, Precision::Auto] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
    }

    #[test]
    fn the_references_names_are_understood() {
        assert_eq!("full".parse(), Ok(Precision::F32));
        assert_eq!("autocast".parse(), Ok(Precision::Auto));
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
    }

    #[test]
    fn unknown_names_are_refused_with_the_choice() {
        assert_eq!(
            "cuda:x".parse::<Device>().unwrap_err().to_string(),
            "unknown device \"cuda:x\": use cpu, cuda, cuda:N or metal"
        );
        assert!("fp8".parse::<Precision>().unwrap_err().to_string().contains("bf16"));
    }

    #[test]
    fn auto_is_bf16_where_the_device_has_it() {
        assert_eq!(Precision::Auto.on(Device::Cpu) == Precision::Bf16, Isa::best().has_bf16());
        assert_eq!(Precision::Auto.on(Device::Metal), Precision::F32);
        assert_eq!(Precision::Auto.on(Device::Cuda(1)), Precision::Bf16);
        assert_eq!(Precision::F16.on(Device::Metal), Precision::F16);
    }
}
