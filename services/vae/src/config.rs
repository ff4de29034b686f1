//! The autoencoder's settings.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
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
    /// Largest height and width of a picture, in pixels.
    #[arg(long, value_name = "N", help_heading = "Queue", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_side: u32,
    /// Pictures of more pixels than this are coded in bands, which takes less memory; 589824 is 768x768.
    #[arg(long, value_name = "N", help_heading = "Queue")]
    pub undivided_pixels: u32,
    /// Sign pictures of 256x256 pixels and more with the reference's invisible watermark.
    #[arg(long, value_name = "SWITCH", help_heading = "Finished pictures", value_enum)]
    pub watermark: Switch,
    /// What becomes of pictures that the safety checker flags. Without it: block, where there is a checker.
    #[arg(long, value_name = "POLICY", help_heading = "Finished pictures", value_enum)]
    pub safety_policy: Option<Policy>,
    /// A folder with a safety checker. Without it: the model folder's own safety_checker, if it has one.
    #[arg(long, value_name = "PATH", help_heading = "Finished pictures")]
    pub safety_checker: Option<PathBuf>,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What becomes of a picture that the safety checker flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Every pixel black, and marked.
    Block,
    /// Marked, and left as it is.
    Mark,
    /// No checker runs.
    Off,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::Mark => "mark",
            Self::Off => "off",
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7002),
            model: ModelArgs::default(),
            queue_limit: 64,
            max_side: 2048,
            undivided_pixels: 768 * 768,
            watermark: Switch::On,
            safety_policy: None,
            safety_checker: None,
        }
    }
}

impl ServiceConfig for Config {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}
