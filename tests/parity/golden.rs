//! Golden tensors and the tolerances they are held to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use darkroom_models::stage::{ComputeOptions, Device, Precision};
use safetensors::SafeTensors;

/// The precision that is held to PyTorch's numbers.
pub(crate) const EXACT: ComputeOptions =
    ComputeOptions { device: Device::Cpu, precision: Precision::F32, threads: None };

/// A folder of `tests/golden/models`.
pub(crate) fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/models").join(model)
}

/// The networks' inputs and outputs for one model.
pub(crate) struct Golden {
    folder: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    pub(crate) fn open(model: &str) -> Result<Self> {
        let folder = folder(model);
        let path = folder.join("networks.safetensors");
        Ok(Self { bytes: std::fs::read(&path).with_context(|| path.display().to_string())?, folder })
    }

    /// How far diffusers' own outputs in bf16 are from those in f32, by name.
    pub(crate) fn bf16_errors(&self) -> Result<BTreeMap<String, f64>> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.folder.join("bf16.json"))?)?)
    }

    /// A tensor's values (token ids too, which f32 holds exactly) and its shape.
    pub(crate) fn tensor(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let tensor = file.tensor(name)?;
        let words = tensor.data().as_chunks::<4>().0.iter();
        let values = match tensor.dtype() {
            safetensors::Dtype::I32 => words.map(|word| i32::from_le_bytes(*word) as f32).collect(),
            _ => words.map(|word| f32::from_le_bytes(*word)).collect(),
        };
        Ok((values, tensor.shape().to_vec()))
    }

    /// The rows of a tensor: its first dimension taken apart.
    pub(crate) fn rows(&self, name: &str) -> Result<Vec<Vec<f32>>> {
        let (values, shape) = self.tensor(name)?;
        Ok(values.chunks_exact(values.len() / shape[0]).map(<[f32]>::to_vec).collect())
    }

    /// Rows of token ids.
    pub(crate) fn token_ids(&self) -> Result<Vec<Vec<u32>>> {
        let rows = self.rows("token_ids")?;
        Ok(rows.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect())
    }
}

/// How far a result may be from the reference: the relative L2 error, `‖found − expected‖ / ‖expected‖`.
#[derive(Clone, Copy)]
pub(crate) struct Bound(f64);

/// For models of a few million parameters; the order of additions differs, nothing else may.
pub(crate) const TINY: Bound = Bound(1e-5);

impl Bound {
    /// For bf16: the error of diffusers' own bf16, and a little for the luck of rounding.
    pub(crate) fn bf16(own_error: f64) -> Self {
        Self(1.05 * own_error)
    }

    pub(crate) fn check(self, what: &str, found: &[f32], expected: &[f32]) -> Result<()> {
        ensure!(found.len() == expected.len(), "{what} has {} values, not {}", found.len(), expected.len());
        let error = relative_l2(found, expected);
        println!("{what}: relative L2 error {error:.1e}");
        ensure!(error <= self.0, "{what} is off by {error:.2e}, more than {:.2e}", self.0);
        Ok(())
    }
}

fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let error: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = expected.iter().map(|value| square(f64::from(*value))).sum();
    (error / size).sqrt()
}

/// Bytes as hexadecimal digits, two each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from their hexadecimal digits.
pub(crate) fn unhex(digits: &str) -> Result<Vec<u8>> {
    let pair = |at| digits.get(at..at + 2).context("an odd number of hexadecimal digits");
    (0..digits.len()).step_by(2).map(|at| Ok(u8::from_str_radix(pair(at)?, 16)?)).collect()
}
