//! The flags of `darkroom bench`.

use clap::ValueEnum;
use darkroom_models::stage::{Device, Precision};

use crate::failure::Failure;
use crate::txt2img::side;

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A diffusers folder, a .safetensors or a .ckpt file. Without it: the embedded pocket model.
    #[arg(long, visible_alias = "ckpt", value_name = "PATH")]
    pub(crate) model: Option<String>,
    /// What to measure.
    #[arg(long, value_name = "STAGE", value_enum, default_value_t = Stage::Unet)]
    pub(crate) stage: Stage,
    /// Rounds that count, 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// What computes: cpu, cuda:N or metal.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// The arithmetic: f32, bf16, f16 or auto; full is f32 and autocast is auto.
    #[arg(long, value_name = "TYPE", default_value_t = Precision::Auto)]
    pub(crate) precision: Precision,
    /// CPU threads, 1 to 1024; without it, all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Width in pixels, a multiple of 8 from 64 to 2048; without it, the model's own.
    #[arg(long, visible_alias = "W", value_name = "PIXELS", value_parser = side)]
    pub(crate) width: Option<u32>,
    /// Height in pixels, a multiple of 8 from 64 to 2048; without it, the model's own.
    #[arg(long, visible_alias = "H", value_name = "PIXELS", value_parser = side)]
    pub(crate) height: Option<u32>,
    /// Pictures a round, 1 to 16: the UNet and the text encoder take them together, the autoencoder one by one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) batch: u16,
    /// Compute large pictures undivided, not in bands as the services do: the autoencoder's other way, to compare with.
    #[arg(long)]
    pub(crate) undivided: bool,
    /// Take the averaged (EMA) weights of a .ckpt that holds both.
    #[arg(long)]
    pub(crate) ema: bool,
    /// Write one JSON object to standard output instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part of a model, and what a round of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// One guided step: two rows with a text each.
    Unet,
    /// The decoding of one picture.
    Vae,
    /// The encoding of two prompts at their full length.
    Text,
    /// The encoding of one picture.
    VaeEncoder,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::Text => "text",
            Self::VaeEncoder => "vae-encoder",
        }
    }

    /// What a round of it is, for people.
    pub(crate) fn round(self) -> &'static str {
        match self {
            Self::Unet => "a guided step",
            Self::Vae => "decoding a picture",
            Self::Text => "encoding two prompts",
            Self::VaeEncoder => "encoding a picture",
        }
    }
}

impl Flags {
    /// Refuses what no flag's own parser can see.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let sized = [("--width", self.width), ("--height", self.height)];
        if let Some((flag, _)) = sized.into_iter().find(|(_, side)| self.stage == Stage::Text && side.is_some()) {
            return Err(Failure::Usage(format!("{flag}: texts have none; only --stage unet and vae take it")));
        }
        if self.undivided && !matches!(self.stage, Stage::Vae | Stage::VaeEncoder) {
            let stage = self.stage.name();
            return Err(Failure::Usage(format!(
                "--undivided: {stage} divides nothing; only --stage vae and vae-encoder do"
            )));
        }
        Ok(())
    }
}
