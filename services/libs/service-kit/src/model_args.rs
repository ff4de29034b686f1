//! The settings that the three model stages share. Plain text here: what a device or a precision is, the models know.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

/// Flatten it into a stage's configuration with `#[command(flatten)]` and `#[serde(flatten)]`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
pub struct ModelArgs {
    /// A diffusers folder, a .safetensors or a .ckpt file. Without it: the embedded pocket model.
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub model: Option<String>,
    /// What computes: cpu, cuda:N or metal.
    #[arg(long, value_name = "DEVICE", help_heading = "Model")]
    pub device: String,
    /// The arithmetic: f32, bf16, f16, or auto for the device's best.
    #[arg(long, value_name = "TYPE", help_heading = "Model")]
    pub precision: String,
    /// CPU threads; without it, all cores.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<NonZeroUsize>,
    /// Take the averaged (EMA) weights of a .ckpt that holds both.
    #[arg(long, help_heading = "Model")]
    pub ema: bool,
}

impl Default for ModelArgs {
    fn default() -> Self {
        Self { model: None, device: "cpu".into(), precision: "auto".into(), threads: None, ema: false }
    }
}
