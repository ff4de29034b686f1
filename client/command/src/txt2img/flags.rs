//! The flags of `darkroom txt2img`, with the names that the reference's script gave them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use darkroom_client::{OutputFormat, TraceContext};

use crate::failure::Failure;
use crate::server::Credentials;
use crate::txt2img::reference::ReferenceFlags;

/// A thin client computes nothing: its `--help` leaves out what says how. Given all the same, these flags are refused by name.
const REMOTE_ONLY: bool = cfg!(not(feature = "local"));

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(flatten, next_help_heading = "Prompt")]
    pub(crate) prompt: PromptFlags,
    #[command(flatten, next_help_heading = "Picture")]
    pub(crate) picture: PictureFlags,
    #[command(flatten, next_help_heading = "Output")]
    pub(crate) output: OutputFlags,
    #[command(flatten, next_help_heading = "Where to compute")]
    pub(crate) compute: ComputeFlags,
    #[command(flatten, next_help_heading = "For command lines of the reference's scripts")]
    pub(crate) reference: ReferenceFlags,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptFlags {
    /// What the picture shows.
    #[arg(value_name = "PROMPT")]
    pub(crate) positional: Option<String>,
    /// The same, as the reference's script takes it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with a prompt a line, or - for standard input. Blank lines are passed over.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PictureFlags {
    /// What to move away from.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) negative_prompt: String,
    /// How prompts are read: plain as the reference does, weighted as AUTOMATIC1111's web UI does: (word:1.3), square brackets, BREAK, and
    /// texts of more than 75 tokens.
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) prompt_syntax: Option<PromptSyntax>,
    /// A LoRA that the server has, or the folder of --loras: NAME, or NAME:WEIGHT with -10 to 10 instead of 1. Up to eight of these flags.
    #[arg(long = "lora", value_name = "NAME[:WEIGHT]", value_parser = lora)]
    pub(crate) lora: Vec<Lora>,
    /// Steps of the sampler, 1 to 1000.
    #[arg(long, visible_alias = "ddim-steps", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) steps: Option<u32>,
    /// Guidance scale, 0 to 50: eps = eps(empty) + scale * (eps(prompt) - eps(empty)).
    #[arg(long, visible_alias = "guidance-scale", value_name = "X", value_parser = scale)]
    pub(crate) scale: Option<f64>,
    /// plms, ddim, dpmpp_2m, euler, euler_a, heun, dpm2, unipc, lms, dpm2_a, dpmpp_2m_sde, dpmpp_sde, lcm or ddpm.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["plms", "dpm_solver"])]
    pub(crate) sampler: Option<String>,
    /// The same as --sampler plms.
    #[arg(long, conflicts_with = "dpm_solver")]
    pub(crate) plms: bool,
    /// The same as --sampler dpmpp_2m.
    #[arg(long)]
    pub(crate) dpm_solver: bool,
    /// How the sampler's noise levels are spaced: karras or exponential. Without it, as its timesteps lie.
    #[arg(long, visible_alias = "schedule", value_name = "NAME", value_parser = ["karras", "exponential"])]
    pub(crate) sigma_spacing: Option<String>,
    /// DDIM's eta, 0 (deterministic) to 1; only with the sampler ddim.
    #[arg(long, visible_alias = "ddim-eta", value_name = "X", value_parser = eta)]
    pub(crate) eta: Option<f64>,
    /// The first picture's seed; each further picture takes the next one.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Whose noise the seeds stand for: PyTorch's on a CPU, or what they gave people on their CUDA GPUs. It makes no difference what computes
    /// here.
    #[arg(long, value_name = "WHOSE", value_enum)]
    pub(crate) rng: Option<Rng>,
    /// Turn each picture's noise so much of the way to another seed's, more than 0 to 1: pictures that are much alike. The pictures
    /// then share --seed, and each further one takes the next --variation-seed.
    #[arg(long, value_name = "X", value_parser = share)]
    pub(crate) variation_strength: Option<f64>,
    /// The other seed. Without it, drawn at random.
    #[arg(long, value_name = "N", requires = "variation_strength")]
    pub(crate) variation_seed: Option<u64>,
    /// Use the same seeds for every prompt and iteration.
    #[arg(long)]
    pub(crate) fixed_code: bool,
    /// Width in pixels, a multiple of 8 from 64 to 2048.
    #[arg(long, visible_alias = "W", value_name = "PIXELS", value_parser = side)]
    pub(crate) width: Option<u32>,
    /// Height in pixels, a multiple of 8 from 64 to 2048.
    #[arg(long, visible_alias = "H", value_name = "PIXELS", value_parser = side)]
    pub(crate) height: Option<u32>,
    /// Make the picture at --width and --height first, then enlarge it to WxH pixels and modify it there. Not for a picture to begin from.
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(crate) hires: Option<(u32, u32)>,
    /// How much of the enlarged picture is lost to noise: more than 0, to 1. Without it 0.7.
    #[arg(long, value_name = "X", value_parser = share, requires = "hires")]
    pub(crate) hires_strength: Option<f64>,
    /// Pictures for each prompt, made together.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) n_samples: u32,
    /// How often to go through all prompts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) n_iter: u32,
    /// Last layers of the text tower to leave out.
    #[arg(long, value_name = "N")]
    pub(crate) clip_skip: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OutputFlags {
    /// Pictures go to DIR/samples/00000.png, counting on from what is there, and the grid to DIR/grid-0000.png. Without it DIR is
    /// outputs/txt2img-samples, outputs/img2img-samples, outputs/inpainting-samples or outputs/sweep-samples.
    #[arg(long, value_name = "DIR")]
    pub(crate) outdir: Option<PathBuf>,
    /// How the pictures are saved. Latents go to .npy files.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Png)]
    pub(crate) format: Format,
    /// Do not save a grid of all pictures.
    #[arg(long)]
    pub(crate) skip_grid: bool,
    /// Do not save the single pictures.
    #[arg(long)]
    pub(crate) skip_save: bool,
    /// Pictures in a row of the grid; 0 or left out: as many as --n-samples.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) n_rows: u32,
    /// Save a small preview to DIR/previews every N steps.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) preview_every: u32,
    /// Write one JSON object a line to standard output for everything that happens, instead of the paths alone.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ComputeFlags {
    /// A Darkroom server, such as http://127.0.0.1:7000. Without it all services run inside this process.
    #[arg(long, value_name = "URI", env = "DARKROOM_SERVER")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    /// Your own span, which the server's become children of if it traces: 00-TRACE_ID-SPAN_ID-FLAGS (W3C Trace Context).
    #[arg(long, value_name = "SPAN", env = "TRACEPARENT", value_parser = traceparent)]
    pub(crate) traceparent: Option<TraceContext>,
    /// A diffusers folder, a .safetensors or a .ckpt file; without it, the embedded pocket model. With --server: the name of one of its
    /// models; without it, the first.
    #[arg(long, visible_alias = "ckpt", value_name = "PATH|NAME")]
    pub(crate) model: Option<String>,
    /// What computes: cpu, cuda:N or metal.
    #[arg(long, value_name = "DEVICE", hide = REMOTE_ONLY)]
    pub(crate) device: Option<String>,
    /// The arithmetic: f32, bf16, f16 or auto; full is f32 and autocast is auto.
    #[arg(long, value_name = "TYPE", hide = REMOTE_ONLY)]
    pub(crate) precision: Option<Precision>,
    /// CPU threads; without it, all cores.
    #[arg(long, value_name = "N", hide = REMOTE_ONLY)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Take the averaged (EMA) weights of a .ckpt that holds both.
    #[arg(long, hide = REMOTE_ONLY)]
    pub(crate) ema: bool,
    /// A folder of textual inversions: each file's name, or the word in it, then stands for it in prompts.
    #[arg(long, visible_alias = "embeddings-dir", value_name = "DIR", hide = REMOTE_ONLY)]
    pub(crate) textual_inversions: Option<PathBuf>,
    /// A folder of LoRAs (.safetensors) that --lora can name.
    #[arg(long, visible_alias = "lora-dir", value_name = "DIR", hide = REMOTE_ONLY)]
    pub(crate) loras: Option<PathBuf>,
    /// Do not sign pictures with the reference's invisible watermark, which those of 256x256 pixels and more get.
    #[arg(long, hide = REMOTE_ONLY)]
    pub(crate) no_watermark: bool,
    /// Do not run the model folder's safety checker, which blacks out what it flags.
    #[arg(long, hide = REMOTE_ONLY)]
    pub(crate) no_safety_check: bool,
}

/// A LoRA by name, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lora {
    pub(crate) name: String,
    pub(crate) weight: f64,
}

/// How prompts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PromptSyntax {
    Plain,
    Weighted,
}

/// Whose noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rng {
    Cpu,
    Cuda,
}

/// The file format of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Png,
    #[value(alias = "jpg")]
    Jpeg,
    Webp,
    Latents,
}

/// The arithmetic of the models, under the services' names and the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    #[value(alias = "full")]
    F32,
    Bf16,
    F16,
    #[value(alias = "autocast")]
    Auto,
}

impl Flags {
    /// Refuses what no flag's own parser can see.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let compute = &self.compute;
        if let (Some(server), Some(flag)) = (&compute.server, compute.local_flag()) {
            let why = format!("{flag}: the server {server} decides this; leave it out, or leave out --server");
            return Err(Failure::Usage(why));
        }
        if REMOTE_ONLY && compute.server.is_none() {
            let why = "this darkroom was built without the models: name a server with --server URI";
            return Err(Failure::Usage(why.into()));
        }
        self.picture.check_eta(self.picture.sampler())?;
        self.reference.check()
    }

    /// Whether any file is written.
    pub(crate) fn saves(&self) -> bool {
        !self.output.skip_save || !self.output.skip_grid || self.output.preview_every > 0
    }
}

impl ComputeFlags {
    /// The server's model that was asked for.
    pub(crate) fn remote_model(&self) -> Option<&str> {
        self.server.as_ref().and(self.model.as_deref())
    }

    /// The first flag that only makes sense where this process computes.
    fn local_flag(&self) -> Option<&'static str> {
        let given = [
            ("--device", self.device.is_some()),
            ("--precision", self.precision.is_some()),
            ("--threads", self.threads.is_some()),
            ("--ema", self.ema),
            ("--textual-inversions", self.textual_inversions.is_some()),
            ("--loras", self.loras.is_some()),
            ("--no-watermark", self.no_watermark),
            ("--no-safety-check", self.no_safety_check),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

impl PictureFlags {
    /// The sampler that was asked for; `None` is the model's own.
    pub(crate) fn sampler(&self) -> Option<&str> {
        match (&self.sampler, self.plms, self.dpm_solver) {
            (Some(name), _, _) => Some(name),
            (None, true, _) => Some("plms"),
            (None, false, true) => Some("dpmpp_2m"),
            (None, false, false) => None,
        }
    }

    /// Refuses an eta that `sampler` does not take; `None` is the model's own, which the server knows.
    pub(crate) fn check_eta(&self, sampler: Option<&str>) -> Result<(), Failure> {
        if self.eta.is_some_and(|eta| eta > 0.0) && sampler.is_some_and(|name| name != "ddim") {
            return Err(Failure::Usage("--eta: only the sampler ddim takes it; add --sampler ddim".into()));
        }
        Ok(())
    }
}

impl Format {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Latents => "npy",
        }
    }
}

impl From<Rng> for darkroom_client::Rng {
    fn from(rng: Rng) -> Self {
        match rng {
            Rng::Cpu => Self::Cpu,
            Rng::Cuda => Self::Cuda,
        }
    }
}

impl From<PromptSyntax> for darkroom_client::PromptSyntax {
    fn from(syntax: PromptSyntax) -> Self {
        match syntax {
            PromptSyntax::Plain => Self::Plain,
            PromptSyntax::Weighted => Self::Weighted,
        }
    }
}

impl From<Format> for OutputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Png => Self::Png,
            Format::Jpeg => Self::Jpeg,
            Format::Webp => Self::Webp,
            Format::Latents => Self::Latents,
        }
    }
}

impl Precision {
    /// The name that the services know.
    #[cfg(feature = "local")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Auto => "auto",
        }
    }
}

/// A picture's side in pixels.
pub(crate) fn side(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(side @ 64..=2048) if side % 8 == 0 => Ok(side),
        _ => Err("allowed are multiples of 8 from 64 to 2048".into()),
    }
}

/// Two sides, such as 1024x768.
fn size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once(['x', 'X']).ok_or("allowed are width and height, such as 1024x768")?;
    Ok((side(width)?, side(height)?))
}

/// A name, and a weight behind a colon.
fn lora(text: &str) -> Result<Lora, String> {
    let (name, weight) = match text.rsplit_once(':') {
        Some((name, weight)) => (name, weight.parse().unwrap_or(f64::NAN)),
        None => (text, 1.0),
    };
    if name.is_empty() || !(-10.0..=10.0).contains(&weight) {
        return Err("allowed are a name, or a name and a weight of -10 to 10, such as ink:0.8".into());
    }
    Ok(Lora { name: name.to_owned(), weight })
}

fn traceparent(text: &str) -> Result<TraceContext, String> {
    TraceContext::new(text).map_err(|error| error.to_string())
}

pub(crate) fn scale(text: &str) -> Result<f64, String> {
    within(text, 50.0)
}

fn eta(text: &str) -> Result<f64, String> {
    within(text, 1.0)
}

/// A number above 0, to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= 1.0 => Ok(number),
        _ => Err("allowed are numbers above 0, to 1".into()),
    }
}

/// A number from 0 to `top`; NaN is none.
fn within(text: &str, top: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=top).contains(&number) => Ok(number),
        _ => Err(format!("allowed are numbers from 0 to {top}")),
    }
}
