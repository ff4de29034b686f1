//! What a server is and what it can do, as plain types.

use std::time::Duration;

/// A model that requests can name.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What requests take for the fields that they leave out.
    pub defaults: Defaults,
    /// Names of its samplers.
    pub samplers: Vec<String>,
    /// Smallest width and height in pixels.
    pub min_side: u32,
    /// Largest width and height in pixels.
    pub max_side: u32,
    /// Width and height are multiples of this.
    pub side_multiple: u32,
    /// Pictures in one request at most.
    pub max_images: u32,
    /// Largest `clip_skip`.
    pub max_clip_skip: u32,
    /// Tokens of a plain prompt that are used; a weighted one goes on in further windows of as many.
    pub max_prompt_tokens: u32,
    /// Requests need a picture to begin from and a mask.
    pub inpainting: bool,
    /// The model looks at the guidance scale itself; a negative prompt has no effect.
    pub embedded_guidance: bool,
    /// Words of prompts that stand for textual inversions.
    pub textual_inversions: Vec<String>,
    /// LoRAs that requests can name.
    pub loras: Vec<String>,
    /// Why it cannot be served now, in words; empty when it can. All but the name may be empty then.
    pub problem: String,
}

/// A model's own settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Defaults {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Steps of the sampler.
    pub num_inference_steps: u32,
    /// The sampler's name.
    pub sampler: String,
}

/// What a server (an orchestrator) is, sees and has done.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerInfo {
    /// The version of the orchestrator's program.
    pub version: String,
    /// Whether requests can be served: each stage has a ready worker, and their models fit each other.
    pub ready: bool,
    /// Why not, in words; empty where they can.
    pub problem: String,
    /// Since its process started.
    pub uptime: Duration,
    /// Requests that wait.
    pub queue_depth: u32,
    /// Requests that may wait.
    pub queue_limit: u32,
    /// Requests that have begun and not ended.
    pub running_requests: u32,
    /// Seconds that one denoiser would need for all denoising that waits or runs.
    pub queued_work_seconds: f64,
    /// What it has counted.
    pub totals: Totals,
    /// The stages' workers as the orchestrator sees them.
    pub workers: Vec<StageWorker>,
}

/// What a server has counted since its process started. Two answers make a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that were let in.
    pub admitted_requests: u64,
    /// Requests that were in order and not let in: too much waits, or their deadline cannot be met.
    pub refused_requests: u64,
    /// Pictures sent to clients.
    pub images: u64,
    /// Pictures that could not be made.
    pub failed_images: u64,
    /// Steps of pictures, each counted once.
    pub steps: u64,
}

/// One stage worker.
#[derive(Debug, Clone, PartialEq)]
pub struct StageWorker {
    /// `text_encoder`, `denoiser` or `vae`.
    pub stage: String,
    /// Where the orchestrator reaches it.
    pub address: String,
    /// Whether it takes work: its state is `ready`.
    pub ready: bool,
    /// `ready`, or why it gets no work: `unreachable`, `starting`, `draining`, `retired`, `misfit_revision` or `misfit_precision`.
    pub state: String,
    /// The model it runs, or ran when it last took work.
    pub model: String,
    /// A hash over its weights and configuration.
    pub revision: String,
    /// The arithmetic in use.
    pub precision: String,
    /// The device it computes on.
    pub device: String,
    /// The version of its program.
    pub version: String,
    /// Why it is not ready, in words.
    pub problem: String,
    /// For which of the server's models it is listed; empty where its configuration names none.
    pub served_model: String,
    /// How long ago it last answered the orchestrator's look; `None`: never.
    pub seen: Option<Duration>,
    /// Calls of this orchestrator that run or wait there.
    pub calls: u32,
    /// How busy a denoiser is, as it last said; `None` in other stages.
    pub load: Option<DenoiserLoad>,
}

/// How busy a denoiser is, with all orchestrators' work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DenoiserLoad {
    /// Pictures in the batch.
    pub running: u32,
    /// Pictures that wait for a place in it.
    pub waiting: u32,
    /// Evaluations of the UNet still to do for both.
    pub remaining_evaluations: u64,
    /// Seconds until both are finished, by the step times measured there.
    pub remaining_seconds: f64,
    /// Seconds of an evaluation, smoothed; 0 before the first.
    pub step_seconds: f64,
    /// Latent pixels of all rows in the batch.
    pub running_pixels: u64,
    /// How many of them may run at once.
    pub batch_pixels: u64,
}
