//! The text encoder's settings.

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
    /// Calls that may wait for the model; further ones are refused.
    #[arg(long, value_name = "N", help_heading = "Queue", value_parser = clap::value_parser!(u32).range(1..))]
    pub queue_limit: u32,
    /// A folder of textual inversions: each file's name, or the word in it, then stands for it in prompts.
    #[arg(long, alias = "embeddings-dir", value_name = "PATH", help_heading = "Model")]
    pub textual_inversions: Option<PathBuf>,
    /// A folder of LoRAs (.safetensors): requests name each by its file's name without the ending. The denoisers need the same.
    #[arg(long, alias = "lora-dir", value_name = "DIR", help_heading = "Model")]
    pub loras: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7001),
            model: ModelArgs::default(),
            queue_limit: 64,
            textual_inversions: None,
            loras: None,
        }
    }
}

impl ServiceConfig for Config {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}
