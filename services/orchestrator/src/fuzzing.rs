//! Doors for the fuzz targets of `tests/fuzz`: a request is checked, its settings are written into a picture, and a caller is
//! recognised, without stages.

use bytes::Bytes;
use darkroom_proto::v1::{DenoiserInfo, GenerateRequest, Hires, OutputFormat, Priority as PriorityMessage};
use darkroom_proto::v1::{TextEncoderInfo, VaeInfo};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::clients::Clients;
use crate::inputs::Files;
use crate::job::{Format, Job, Output, Priority};
use crate::model::Model;
use crate::parameters::parameters;
use crate::picture::{self, Rgb};
use crate::picture_file::PictureFile;
use crate::stages::Info;
use crate::validate::{Limits, Refusal, validate};

/// What an orchestrator knows when a request comes.
pub struct Door {
    model: Model,
    limits: Limits,
}

/// A request that was taken.
pub struct Taken {
    job: Job,
    init_image: Bytes,
    mask_image: Bytes,
}

impl Door {
    /// In front of these stages, or why they do not fit.
    pub fn new(
        text: TextEncoderInfo,
        denoiser: DenoiserInfo,
        vae: VaeInfo,
        max_images: u32,
        max_side: u32,
    ) -> Result<Self, String> {
        let model = Model::join(&Info::TextEncoder(text), &Info::Denoiser(denoiser), &Info::Vae(vae));
        Ok(Self { model: model.map_err(|misfit| misfit.to_string())?, limits: Limits { max_images, max_side } })
    }

    /// Takes a request, or refuses it with a field and why.
    pub fn check(&self, mut request: GenerateRequest) -> Result<Taken, (&'static str, String)> {
        let (init_image, mask_image) = (request.init_image.clone(), request.mask_image.clone());
        let files = Files::take(&mut request);
        let checked =
            files.and_then(|files| validate(request, &self.model, self.limits, files.as_ref().map(Files::size), || 7));
        let taken = checked.map(|job| Taken { job, init_image, mask_image });
        taken.map_err(|refusal| (refusal.field, refusal.message))
    }
}

impl Taken {
    /// The same job as a request that leaves nothing out.
    pub fn in_full(&self) -> GenerateRequest {
        let job = self.job.clone();
        let output = match job.output {
            Output::Picture(Format::Png) => OutputFormat::Png,
            Output::Picture(Format::Jpeg) => OutputFormat::Jpeg,
            Output::Picture(Format::Webp) => OutputFormat::Webp,
            Output::Latents => OutputFormat::Latents,
        };
        let priority = match job.priority {
            Priority::Low => PriorityMessage::Low,
            Priority::Normal => PriorityMessage::Normal,
            Priority::High => PriorityMessage::High,
        };
        GenerateRequest {
            request_id: job.request_id,
            model: job.model,
            prompt: job.prompt,
            prompt_syntax: job.prompt_syntax.into(),
            negative_prompt: job.negative_prompt,
            width: Some(job.width),
            height: Some(job.height),
            num_images: Some(job.num_images),
            seed: Some(job.seed),
            sampler: job.sampler,
            num_inference_steps: Some(job.num_inference_steps),
            guidance_scale: Some(job.guidance_scale),
            eta: Some(job.eta),
            sigma_spacing: job.sigma_spacing,
            hires: job.hires.map(|hires| Hires {
                width: hires.width,
                height: hires.height,
                strength: Some(hires.strength),
            }),
            rng: job.rng.into(),
            variation_strength: job.variation.map(|variation| variation.strength),
            variation_seed: job.variation.map(|variation| variation.seed),
            clip_skip: Some(job.clip_skip),
            preview_every: job.preview_every,
            output_format: output.into(),
            priority: priority.into(),
            loras: self.job.lora_messages(),
            init_image: self.init_image.clone(),
            strength: job.init.map(|init| init.strength),
            mask_image: self.mask_image.clone(),
            strength_way: job.init.map_or(0, |init| init.way.into()),
        }
    }

    /// The settings of picture `index` as viewers read them.
    pub fn parameters(&self, index: u32) -> String {
        parameters(&self.job, index)
    }

    /// A PNG of one pixel that carries the settings of picture `index`.
    pub fn png(&self, index: u32) -> Result<Vec<u8>, String> {
        let pixel = Rgb { width: 1, height: 1, data: vec![0; 3].into() };
        picture::png(&pixel, Some(&self.parameters(index))).map_err(|error| error.to_string())
    }
}

/// What became of a picture file.
pub struct Read {
    /// Width and height that its head promises.
    pub size: [u32; 2],
    /// Bytes of the picture, and of it as a mask, at the size that was asked for.
    pub rgb: usize,
    pub mask: usize,
}

/// Reads a picture file at a size, or refuses it with a field and why.
pub fn picture(file: Vec<u8>, size: [u32; 2]) -> Result<Read, (&'static str, String)> {
    let read = || {
        let file = PictureFile::open("init_image", file.into())?;
        Ok(Read { size: file.size(), rgb: file.rgb(size)?.data.len(), mask: file.grey(size)?.len() })
    };
    read().map_err(|refusal: Refusal| (refusal.field, refusal.message))
}

/// Who may ask.
pub struct Callers(Clients);

/// One who asks.
#[derive(Debug)]
pub struct Caller {
    pub identity: String,
    pub weight: f64,
}

impl Callers {
    /// As a clients file says, or anybody.
    pub fn new(file: Option<&str>) -> Result<Self, String> {
        let Some(text) = file else { return Ok(Self(Clients::anybody(Priority::High))) };
        Clients::parse(text, Priority::High).map(Self).map_err(|error| format!("{error:#}"))
    }

    /// Who made a call, of whose connection nothing is known.
    pub fn of(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let client = self.0.of(metadata, None).map_err(|(_, status)| status)?;
        Ok(Caller { identity: client.identity.to_string(), weight: client.weight })
    }
}
