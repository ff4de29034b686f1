//! What a server is and what it can do, as plain types.

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

/// A server's version, queue and stages.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerInfo {
    /// The version of the orchestrator's program.
    pub version: String,
    /// Requests that wait.
    pub queue_depth: u32,
    /// Requests that may wait.
    pub queue_limit: u32,
    /// The stages' workers as the orchestrator sees them.
    pub workers: Vec<StageWorker>,
}

/// One stage worker.
#[derive(Debug, Clone, PartialEq)]
pub struct StageWorker {
    /// `text_encoder`, `denoiser` or `vae`.
    pub stage: String,
    /// Where the orchestrator reaches it.
    pub address: String,
    /// Whether it takes work.
    pub ready: bool,
    /// The model it runs.
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
}
