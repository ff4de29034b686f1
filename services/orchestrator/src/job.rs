//! A checked request: every field is in its range and every default is filled in.

use darkroom_proto::v1::StrengthWay;

/// What a request asks for, ready to be queued.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) request_id: String,
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) negative_prompt: String,
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    pub(crate) num_images: u32,
    /// Of the first picture; picture i has the seed + i.
    pub(crate) seed: u64,
    /// As requests name it, such as "plms".
    pub(crate) sampler: String,
    pub(crate) num_inference_steps: u32,
    pub(crate) guidance_scale: f64,
    pub(crate) eta: f64,
    /// "karras" or "exponential"; empty: as the sampler's timesteps lie.
    pub(crate) sigma_spacing: String,
    pub(crate) clip_skip: u32,
    /// 0: no previews.
    pub(crate) preview_every: u32,
    pub(crate) output: Output,
    pub(crate) priority: Priority,
    /// `None`: from noise alone.
    pub(crate) init: Option<Init>,
}

/// How a picture is begun from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Init {
    /// Above 0, to 1.
    pub(crate) strength: f64,
    pub(crate) way: StrengthWay,
    /// Only a part of it is made anew.
    pub(crate) masked: bool,
}

impl Job {
    /// The steps that are taken: fewer where a picture is begun from.
    pub(crate) fn steps(&self) -> u32 {
        match &self.init {
            Some(init) => init.steps(self.num_inference_steps),
            None => self.num_inference_steps,
        }
    }

    /// Whether the unconditional half is computed: for every scale but exactly 1.
    pub(crate) fn guided(&self) -> bool {
        self.guidance_scale != 1.0
    }

    /// The seed of picture `index`.
    pub(crate) fn image_seed(&self, index: u32) -> u64 {
        self.seed.wrapping_add(index.into())
    }
}

impl Init {
    /// Of `num_inference_steps`, as both references round.
    pub(crate) fn steps(&self, num_inference_steps: u32) -> u32 {
        (f64::from(num_inference_steps) * self.strength) as u32
    }
}

/// What a picture is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Picture(Format),
    /// No picture: the final latents.
    Latents,
}

/// A picture file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    Webp,
}

/// Requests of a higher priority leave the queue first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Behind all others.
    Low,
    /// The usual one.
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// As requests name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Normal => "NORMAL",
            Self::High => "HIGH",
        }
    }
}
