//! What to ask for: a prompt and the settings that differ from the model's own.

use std::time::Duration;

use bytes::Bytes;
use darkroom_proto::v1;

use crate::TraceContext;

/// A request for pictures. Whatever is left out takes the model's own default.
///
/// The server checks everything and names the field and its allowed range when it refuses one.
#[derive(Debug, Clone, Default)]
pub struct GenerateRequest {
    message: v1::GenerateRequest,
    deadline: Option<Duration>,
    trace: Option<TraceContext>,
}

/// The file format of the finished pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// Lossless, with the parameters in a text chunk.
    #[default]
    Png,
    /// Quality 95.
    Jpeg,
    /// Lossless WebP.
    Webp,
    /// No picture: the final latents.
    Latents,
}

/// How far into the noise a picture is taken, and where the way back begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrengthWay {
    /// As the reference's `scripts/img2img.py`. Only with the sampler `ddim`, and what that has when nothing is said.
    CompVis,
    /// As diffusers' `StableDiffusionImg2ImgPipeline`.
    Diffusers,
}

/// Whose noise a seed stands for, wherever the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rng {
    /// PyTorch's on a CPU.
    #[default]
    Cpu,
    /// PyTorch's on a CUDA GPU.
    Cuda,
}

/// How prompts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptSyntax {
    /// As the reference does: every sign is itself, and what does not fit into one window of the text tower is left out.
    #[default]
    Plain,
    /// As AUTOMATIC1111's web UI does: `(word:1.3)` weighs more, `[word]` less, and a long text goes on in further windows.
    Weighted,
}

/// Requests of a higher priority leave the server's queue first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// After everything else.
    Low,
    /// What requests have that say nothing.
    #[default]
    Normal,
    /// Before everything else.
    High,
}

impl GenerateRequest {
    /// A request for one picture of `prompt` (1 to 8,192 characters).
    pub fn new(prompt: impl Into<String>) -> Self {
        let message = v1::GenerateRequest { prompt: prompt.into(), ..Default::default() };
        Self { message, deadline: None, trace: None }
    }

    /// Names the request in events and in the server's logs (at most 128 printable ASCII characters).
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.message.request_id = id.into();
        self
    }

    /// One of the names that [`Client::list_models`](crate::Client::list_models) gives.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.message.model = name.into();
        self
    }

    /// What to move away from.
    pub fn negative_prompt(mut self, text: impl Into<String>) -> Self {
        self.message.negative_prompt = text.into();
        self
    }

    /// How the prompt and the negative prompt are read.
    pub fn prompt_syntax(mut self, syntax: PromptSyntax) -> Self {
        self.message.prompt_syntax = match syntax {
            PromptSyntax::Plain => v1::PromptSyntax::Plain,
            PromptSyntax::Weighted => v1::PromptSyntax::Weighted,
        } as i32;
        self
    }

    /// Adds a LoRA that the server has, one of [`Model::loras`](crate::Model::loras), with its weight: 1 is all of it, less than 0 takes it away
    /// (-10 to 10; at most 8 of them).
    pub fn lora(mut self, name: impl Into<String>, weight: f64) -> Self {
        self.message.loras.push(v1::Lora { name: name.into(), weight: Some(weight) });
        self
    }

    /// Width in pixels: a multiple of 8.
    pub fn width(mut self, pixels: u32) -> Self {
        self.message.width = Some(pixels);
        self
    }

    /// Height in pixels: a multiple of 8.
    pub fn height(mut self, pixels: u32) -> Self {
        self.message.height = Some(pixels);
        self
    }

    /// How many pictures; picture *i* uses seed + *i*.
    pub fn num_images(mut self, count: u32) -> Self {
        self.message.num_images = Some(count);
        self
    }

    /// The seed of the first picture. Left out: drawn by the server and told in [`Event::Started`](crate::Event::Started).
    pub fn seed(mut self, seed: u64) -> Self {
        self.message.seed = Some(seed);
        self
    }

    /// Whose noise the seeds stand for.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.message.rng = match rng {
            Rng::Cpu => v1::Rng::Cpu,
            Rng::Cuda => v1::Rng::Cuda,
        } as i32;
        self
    }

    /// Turn each picture's initial noise so much of the way (more than 0, to 1) towards that of another seed. Picture *i* is then of
    /// seed and variation seed + *i*.
    pub fn variation_strength(mut self, strength: f64) -> Self {
        self.message.variation_strength = Some(strength);
        self
    }

    /// The other seed, of the first picture. Left out: drawn by the server and told in [`Event::Started`](crate::Event::Started).
    pub fn variation_seed(mut self, seed: u64) -> Self {
        self.message.variation_seed = Some(seed);
        self
    }

    /// One of the model's samplers, such as `plms`.
    pub fn sampler(mut self, name: impl Into<String>) -> Self {
        self.message.sampler = name.into();
        self
    }

    /// Steps of the sampler.
    pub fn num_inference_steps(mut self, steps: u32) -> Self {
        self.message.num_inference_steps = Some(steps);
        self
    }

    /// Guidance: `eps = eps(negative) + scale · (eps(prompt) − eps(negative))`. Exactly 1 leaves the negative half out.
    pub fn guidance_scale(mut self, scale: f64) -> Self {
        self.message.guidance_scale = Some(scale);
        self
    }

    /// DDIM's η: 0 is deterministic, 1 is DDPM-like. Only with the sampler `ddim`.
    pub fn eta(mut self, eta: f64) -> Self {
        self.message.eta = Some(eta);
        self
    }

    /// How the sampler's noise levels are spaced: `karras` or `exponential`. Left out: as its timesteps lie.
    pub fn sigma_spacing(mut self, name: impl Into<String>) -> Self {
        self.message.sigma_spacing = name.into();
        self
    }

    /// Last layers of the text tower to leave out.
    pub fn clip_skip(mut self, layers: u32) -> Self {
        self.message.clip_skip = Some(layers);
        self
    }

    /// Begin from a picture: a PNG, JPEG or WebP file.
    pub fn init_image(mut self, file: impl Into<Bytes>) -> Self {
        self.message.init_image = file.into();
        self
    }

    /// How much of the picture that the request begins from is lost to noise: more than 0, to 1.
    pub fn strength(mut self, strength: f64) -> Self {
        self.message.strength = Some(strength);
        self
    }

    /// Make only a part of the picture that the request begins from anew: a picture file, white there and black elsewhere.
    pub fn mask_image(mut self, file: impl Into<Bytes>) -> Self {
        self.message.mask_image = file.into();
        self
    }

    /// What [`strength`](Self::strength) means to the steps.
    pub fn strength_way(mut self, way: StrengthWay) -> Self {
        self.message.strength_way = match way {
            StrengthWay::CompVis => v1::StrengthWay::Compvis,
            StrengthWay::Diffusers => v1::StrengthWay::Diffusers,
        } as i32;
        self
    }

    /// A second pass: enlarge the picture to so many pixels, and modify it there with the same settings and seed.
    pub fn hires(mut self, width: u32, height: u32) -> Self {
        let hires = self.message.hires.get_or_insert_default();
        (hires.width, hires.height) = (width, height);
        self
    }

    /// How much of the enlarged picture is lost to noise in the second pass: more than 0, to 1.
    pub fn hires_strength(mut self, strength: f64) -> Self {
        self.message.hires.get_or_insert_default().strength = Some(strength);
        self
    }

    /// Send a preview with every `steps`-th step event; 0 sends none.
    pub fn preview_every(mut self, steps: u32) -> Self {
        self.message.preview_every = steps;
        self
    }

    /// The format of the finished pictures.
    pub fn output_format(mut self, format: OutputFormat) -> Self {
        self.message.output_format = match format {
            OutputFormat::Png => v1::OutputFormat::Png,
            OutputFormat::Jpeg => v1::OutputFormat::Jpeg,
            OutputFormat::Webp => v1::OutputFormat::Webp,
            OutputFormat::Latents => v1::OutputFormat::Latents,
        } as i32;
        self
    }

    /// Which requests leave the queue first.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.message.priority = match priority {
            Priority::Low => v1::Priority::Low,
            Priority::Normal => v1::Priority::Normal,
            Priority::High => v1::Priority::High,
        } as i32;
        self
    }

    /// The longest that the whole request may take, queue included. It travels to the server, which stops the work in every
    /// stage when it passes. Left out: no limit.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The caller's own span: where the server traces, the request's spans become its children, recorded or not as the caller's is.
    pub fn trace_context(mut self, context: TraceContext) -> Self {
        self.trace = Some(context);
        self
    }

    pub(crate) fn into_parts(self) -> (v1::GenerateRequest, Option<Duration>, Option<TraceContext>) {
        (self.message, self.deadline, self.trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_sent() {
        let (message, deadline, trace) = GenerateRequest::new("a red circle").into_parts();
        let expected = v1::GenerateRequest { prompt: "a red circle".into(), ..Default::default() };
        assert_eq!(message, expected);
        assert_eq!(deadline, None);
        assert!(trace.is_none());
    }
}
