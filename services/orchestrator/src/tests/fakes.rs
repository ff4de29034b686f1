//! Stages without models: they answer what the protocol asks for, as slowly or as badly as a test wants.

mod denoiser;

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use darkroom_proto::v1::text_encoder_server::TextEncoder;
use darkroom_proto::v1::vae_server::Vae;
use darkroom_proto::v1::*;
use darkroom_service_kit::status;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::job::{Format, Job, Output, Priority};
use crate::model::Model;
use crate::stages::{Info, Stage};

pub(crate) use denoiser::{FakeDenoiser, latent};

const TOKENS: usize = 8;
const HIDDEN: usize = 4;
/// In each fake's queue.
pub(crate) const PLACES: u32 = 8;

fn stage_info() -> Option<StageInfo> {
    Some(StageInfo {
        model: "fake".into(),
        revision: "0123456789abcdef".into(),
        precision: "f32".into(),
        device: "cpu".into(),
        version: "0".into(),
        queue_limit: PLACES,
    })
}

/// As a stage without room answers.
pub(crate) fn full() -> Status {
    status::exhausted("all 8 places in the queue are taken", Duration::from_millis(20))
}

fn loras() -> Vec<LoraFile> {
    ["flat", "ink"].map(|name| LoraFile { name: name.into(), digest: name.into() }).into()
}

pub(crate) fn text_info() -> TextEncoderInfo {
    TextEncoderInfo {
        stage: stage_info(),
        hidden_size: HIDDEN as u32,
        max_tokens: TOKENS as u32,
        num_layers: 2,
        max_windows: 3,
        textual_inversions: vec!["<cat-toy>".into()],
        loras: loras(),
    }
}

pub(crate) fn denoiser_info() -> DenoiserInfo {
    DenoiserInfo {
        stage: stage_info(),
        latent_channels: 4,
        cross_attention_dim: HIDDEN as u32,
        samplers: ["plms", "ddim", "euler"].map(String::from).to_vec(),
        defaults: Some(GenerationDefaults {
            width: 64,
            height: 64,
            guidance_scale: 7.5,
            num_inference_steps: 4,
            sampler: "plms".into(),
        }),
        max_latent_side: 64,
        latent_multiple: 1,
        max_batch: 2,
        plan_version: 1,
        // Two guided pictures of 64×64 pixels.
        batch_pixels: 2 * 2 * 8 * 8,
        sampler_costs: Vec::new(),
        inpainting: false,
        embedded_guidance: false,
        loras: loras(),
    }
}

pub(crate) fn vae_info() -> VaeInfo {
    let safety_policy = SafetyPolicy::Mark.into();
    VaeInfo {
        stage: stage_info(),
        latent_channels: 4,
        factor: 8,
        scaling_factor: 0.18215,
        max_side: 1024,
        safety_policy,
        ..VaeInfo::default()
    }
}

pub(crate) fn model() -> Model {
    Model::join(&Info::TextEncoder(text_info()), &Info::Denoiser(denoiser_info()), &Info::Vae(vae_info())).unwrap()
}

pub(crate) fn job() -> Job {
    Job {
        request_id: "test".into(),
        model: "fake".into(),
        prompt: "a red circle".into(),
        negative_prompt: String::new(),
        prompt_syntax: PromptSyntax::Plain,
        width: 64,
        height: 64,
        num_images: 1,
        seed: 42,
        sampler: "plms".into(),
        num_inference_steps: 4,
        guidance_scale: 7.5,
        eta: 0.0,
        sigma_spacing: String::new(),
        rng: Rng::Cpu,
        variation: None,
        hires: None,
        loras: Vec::new(),
        clip_skip: 0,
        preview_every: 0,
        output: Output::Picture(Format::Png),
        priority: Priority::Normal,
        init: None,
    }
}

/// What a test sets, and what the fakes saw. Fakes may share one, or have one each.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) step_time: Mutex<Duration>,
    pub(crate) text_time: Mutex<Duration>,
    /// Pictures with these seeds fail.
    pub(crate) bad_seeds: Mutex<Vec<u64>>,
    /// What goes wrong with a denoise stream, once the evaluation with this number is done.
    pub(crate) trouble: Mutex<Option<(u32, Trouble)>>,
    /// Breaks all denoise streams that run.
    pub(crate) die: Notify,
    /// Every call of this stage is answered with this.
    pub(crate) refusal: Mutex<Option<(Stage, Status)>>,
    /// Another revision and precision than the other fakes'.
    pub(crate) identity: Mutex<Option<(&'static str, &'static str)>>,
    /// Another model's name than the other fakes'.
    pub(crate) model: Mutex<Option<&'static str>>,
    /// Of checkpoints that the denoiser takes; 0: its own.
    pub(crate) plan_version: AtomicU32,
    pub(crate) load: Mutex<GetLoadResponse>,
    pub(crate) loads_told: AtomicU32,
    pub(crate) vae_channels: Mutex<Option<u32>>,
    /// A `SafetyVerdict`.
    pub(crate) verdict: AtomicI32,
    pub(crate) texts: Mutex<Vec<String>>,
    /// Of each call for texts.
    pub(crate) text_loras: Mutex<Vec<Vec<Lora>>>,
    pub(crate) denoised: Mutex<Vec<DenoiseRequest>>,
    /// Seed and number of each evaluation.
    pub(crate) evaluations: Mutex<Vec<(u64, u32)>>,
    pub(crate) decode_time: Mutex<Duration>,
    /// Decodings under way: one more than there are places is refused.
    pub(crate) decoding: AtomicU32,
    pub(crate) decoded: AtomicU32,
    pub(crate) encoded: Mutex<Vec<EncodeRequest>>,
    /// Of each picture that was decoded, whether it only goes on inside the fleet.
    pub(crate) intermediate: Mutex<Vec<bool>>,
    /// The denoiser's UNet is an inpainting one.
    pub(crate) inpainting: AtomicBool,
    /// Denoise calls that carried a deadline.
    pub(crate) deadlines: AtomicU32,
    /// Denoise streams that were dropped before their end.
    pub(crate) cancelled: AtomicU32,
}

/// What can become of a denoiser in the middle of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The stream breaks.
    Dies,
    /// Nothing more comes, and the stream stays open.
    Hangs,
    /// It says that it will leave, and goes on.
    Drains,
    /// It says that it will leave before it does anything, and goes on.
    DrainsWaiting,
    /// Words of an earlier try come in between, with steps and latents that are wrong.
    Echoes,
}

impl Behaviour {
    fn stage_info(&self) -> Option<StageInfo> {
        let (identity, model) = (*self.identity.lock().unwrap(), *self.model.lock().unwrap());
        stage_info().map(|mut info| {
            if let Some((revision, precision)) = identity {
                (info.revision, info.precision) = (revision.into(), precision.into());
            }
            StageInfo { model: model.map_or(info.model, str::to_owned), ..info }
        })
    }

    fn refuse(&self, stage: Stage) -> Result<(), Status> {
        match &*self.refusal.lock().unwrap() {
            Some((refusing, status)) if *refusing == stage => Err(status.clone()),
            _ => Ok(()),
        }
    }
}

pub(crate) struct FakeTextEncoder(pub(crate) Arc<Behaviour>);

#[tonic::async_trait]
impl TextEncoder for FakeTextEncoder {
    /// A token a word; six fit, of a weighted text as many into each of three windows. One that says "(bad:..)" cannot be read.
    async fn encode_text(&self, request: Request<EncodeTextRequest>) -> Result<Response<EncodeTextResponse>, Status> {
        self.0.refuse(Stage::TextEncoder)?;
        let is_weighted = request.get_ref().syntax() == PromptSyntax::Weighted;
        let embed = |text: &String| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let most = if is_weighted { 3 } else { 1 };
            let windows = words.len().div_ceil(TOKENS - 2).clamp(1, most);
            let dropped = words.get(windows * (TOKENS - 2)..).unwrap_or_default();
            let values = vec![text.len() as f32; windows * TOKENS * HIDDEN];
            TextEmbedding {
                prompt_embeds: Some(Tensor::from_f32(&[windows * TOKENS, HIDDEN], &values)),
                token_count: words.len() as u32,
                dropped_text: dropped.join(" "),
                dropped_tokens: dropped.len() as u32,
            }
        };
        if is_weighted && request.get_ref().prompts.iter().any(|text| text.contains("(bad:..)")) {
            return Err(status::invalid_argument("prompts[0]", "a word's weight is .."));
        }
        let pause = *self.0.text_time.lock().unwrap();
        tokio::time::sleep(pause).await;
        let EncodeTextRequest { prompts: texts, loras, .. } = request.into_inner();
        self.0.text_loras.lock().unwrap().push(loras);
        let embeddings = texts.iter().map(embed).collect();
        self.0.texts.lock().unwrap().extend(texts);
        Ok(Response::new(EncodeTextResponse { embeddings }))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<TextEncoderInfo>, Status> {
        Ok(Response::new(TextEncoderInfo { stage: self.0.stage_info(), ..text_info() }))
    }
}

pub(crate) struct FakeVae(pub(crate) Arc<Behaviour>);

#[tonic::async_trait]
impl Vae for FakeVae {
    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        self.0.refuse(Stage::Vae)?;
        if self.0.decoding.fetch_add(1, Ordering::SeqCst) >= PLACES {
            self.0.decoding.fetch_sub(1, Ordering::SeqCst);
            return Err(full());
        }
        let pause = *self.0.decode_time.lock().unwrap();
        tokio::time::sleep(pause).await;
        self.0.decoding.fetch_sub(1, Ordering::SeqCst);
        self.0.decoded.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        self.0.intermediate.lock().unwrap().push(request.intermediate);
        let shape = request.latents.unwrap_or_default().shape;
        let (height, width) = (shape[1] as usize * 8, shape[2] as usize * 8);
        let image = Some(Tensor::from_u8(&[height, width, 3], vec![90; height * width * 3]));
        Ok(Response::new(DecodeResponse { image, safety: self.0.verdict.load(Ordering::SeqCst) }))
    }

    /// Latents of the picture's first byte, plus a hundred where there is a mask, plus each seed.
    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        self.0.refuse(Stage::Vae)?;
        let request = request.into_inner();
        let image = request.image.clone().unwrap_or_default();
        let (height, width) = (image.shape[0] as usize / 8, image.shape[1] as usize / 8);
        let first = f32::from(image.data[0]) + if request.mask.is_some() { 100.0 } else { 0.0 };
        let values: Vec<f32> =
            request.seeds.iter().flat_map(|seed| vec![first + *seed as f32; 4 * height * width]).collect();
        let latents = Some(Tensor::from_f32(&[request.seeds.len(), 4, height, width], &values));
        self.0.encoded.lock().unwrap().push(request);
        Ok(Response::new(EncodeResponse { latents }))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<VaeInfo>, Status> {
        let latent_channels = self.0.vae_channels.lock().unwrap().unwrap_or(4);
        Ok(Response::new(VaeInfo { stage: self.0.stage_info(), latent_channels, ..vae_info() }))
    }
}
