//! A checked request: every field is in its range and every default is filled in.

use darkroom_proto::v1::{self, PromptSyntax, Rng, StrengthWay, Variation};

use crate::model::Model;

/// What a request asks for, ready to be queued.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) request_id: String,
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) negative_prompt: String,
    /// How both are read.
    pub(crate) prompt_syntax: PromptSyntax,
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    pub(crate) num_images: u32,
    /// Of the first picture; picture i has the seed + i, unless there are variations.
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    /// Of the first picture; picture i has its seed + i.
    pub(crate) variation: Option<Variation>,
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
    /// `None`: one pass.
    pub(crate) hires: Option<Hires>,
    pub(crate) loras: Vec<Lora>,
}

/// A LoRA by name, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lora {
    pub(crate) name: String,
    pub(crate) weight: f64,
}

/// The second pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hires {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Above 0, to 1.
    pub(crate) strength: f64,
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
    /// The steps of the first pass: fewer where a picture is begun from.
    pub(crate) fn steps(&self) -> u32 {
        match &self.init {
            Some(init) => steps(init.strength, self.num_inference_steps),
            None => self.num_inference_steps,
        }
    }

    /// The steps of the second pass, if there is one.
    pub(crate) fn hires_steps(&self) -> u32 {
        self.hires.map_or(0, |hires| steps(hires.strength, self.num_inference_steps))
    }

    /// So many steps of the first pass, or evaluations, as what they weigh in those of the last: in the measure of pixels.
    pub(crate) fn scaled_to_last(&self, count: u32) -> u32 {
        let area = |[width, height]: [u32; 2]| u64::from(width) * u64::from(height);
        let (first, last) = (area([self.width, self.height]), area(self.final_size()).max(1));
        u32::try_from((u64::from(count) * first).div_ceil(last)).unwrap_or(u32::MAX)
    }

    /// Width and height of the finished pictures.
    pub(crate) fn final_size(&self) -> [u32; 2] {
        self.hires.map_or([self.width, self.height], |hires| [hires.width, hires.height])
    }

    /// Its LoRAs as messages name them.
    pub(crate) fn lora_messages(&self) -> Vec<v1::Lora> {
        self.loras.iter().map(|lora| v1::Lora { name: lora.name.clone(), weight: Some(lora.weight) }).collect()
    }

    /// Whether the unconditional half is computed: for every scale but exactly 1, unless the model looks at the scale itself.
    pub(crate) fn guided(&self, model: &Model) -> bool {
        self.guidance_scale != 1.0 && !model.embedded_guidance
    }

    /// The seed of picture `index`.
    pub(crate) fn image_seed(&self, index: u32) -> u64 {
        // Variations are of one picture.
        let further = if self.variation.is_some() { 0 } else { index };
        self.seed.wrapping_add(further.into())
    }

    /// The variation that picture `index` is.
    pub(crate) fn image_variation(&self, index: u32) -> Option<Variation> {
        let further = |variation: Variation| Variation { seed: variation.seed.wrapping_add(index.into()), ..variation };
        self.variation.map(further)
    }
}

/// What a strength leaves of so many steps, as both references round.
pub(crate) fn steps(strength: f64, num_inference_steps: u32) -> u32 {
    (f64::from(num_inference_steps) * strength) as u32
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
