//! The denoiser's settings.

use std::path::PathBuf;

use darkroom_service_kit::{ModelArgs, ServerConfig, ServiceConfig};
use serde::{Deserialize, Serialize};

/// All settings, with their defaults.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub struct Config {
    /// Addresses, limits, logs.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerConfig,
    /// Which model, and how it computes.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelArgs,
    /// A folder of LoRAs (.safetensors): requests name each by its file's name without the ending. The text encoders need the same.
    #[arg(long, alias = "lora-dir", value_name = "DIR", help_heading = "Model")]
    pub loras: Option<PathBuf>,
    /// Pictures in one batch at most, guided and of the model's default size. Without it: as many as make
    /// each of them cheaper, or up to eight while an evaluation stays short, as measured at start.
    #[arg(long, value_name = "N", help_heading = "Batch", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_batch: Option<u32>,
    /// Memory for texts, latents and noise of the pictures in the batch, in MiB. Without it: half of what is free once the model
    /// is loaded, by the machine and by the process's control groups. That is the host's memory: on a GPU, name a number.
    #[arg(long, value_name = "MIB", help_heading = "Batch", value_parser = clap::value_parser!(u32).range(1..))]
    pub memory_limit_mib: Option<u32>,
    /// Pictures that may wait for a place in the batch; further ones are refused.
    #[arg(long, value_name = "N", help_heading = "Batch", value_parser = clap::value_parser!(u32).range(1..))]
    pub queue_limit: u32,
    /// Largest height and width of latents: an eighth of the picture's.
    #[arg(long, value_name = "N", help_heading = "Batch", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_latent_side: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7003),
            model: ModelArgs::default(),
            loras: None,
            max_batch: None,
            memory_limit_mib: None,
            queue_limit: 64,
            max_latent_side: 256,
        }
    }
}

impl ServiceConfig for Config {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}
