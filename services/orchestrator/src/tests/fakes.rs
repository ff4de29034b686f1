//! Stages without models: they answer what the protocol asks for, as slowly or as badly as a test wants.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_server::Denoiser;
use darkroom_proto::v1::text_encoder_server::TextEncoder;
use darkroom_proto::v1::vae_server::Vae;
use darkroom_proto::v1::*;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::job::{Format, Job, Output, Priority};
use crate::model::Model;
use crate::stages::Info;

const TOKENS: usize = 8;
const HIDDEN: usize = 4;

fn stage_info() -> Option<StageInfo> {
    Some(StageInfo {
        model: "fake".into(),
        revision: "0123456789abcdef".into(),
        precision: "f32".into(),
        device: "cpu".into(),
        version: "0".into(),
        queue_limit: 8,
    })
}

pub(crate) fn text_info() -> TextEncoderInfo {
    TextEncoderInfo { stage: stage_info(), hidden_size: HIDDEN as u32, max_tokens: TOKENS as u32, num_layers: 2 }
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
    }
}

pub(crate) fn vae_info() -> VaeInfo {
    VaeInfo { stage: stage_info(), latent_channels: 4, factor: 8, scaling_factor: 0.18215, max_side: 1024 }
}

pub(crate) fn model() -> Model {
    let infos = [Info::TextEncoder(text_info()), Info::Denoiser(denoiser_info()), Info::Vae(vae_info())];
    Model::of(&infos.each_ref().map(|info| ("fake:1", info))).unwrap().unwrap()
}

pub(crate) fn job() -> Job {
    Job {
        request_id: "test".into(),
        model: "fake".into(),
        prompt: "a red circle".into(),
        negative_prompt: String::new(),
        width: 64,
        height: 64,
        num_images: 1,
        seed: 42,
        sampler: "plms".into(),
        num_inference_steps: 4,
        guidance_scale: 7.5,
        eta: 0.0,
        clip_skip: 0,
        preview_every: 0,
        output: Output::Picture(Format::Png),
        priority: Priority::Normal,
    }
}

/// What a test sets, and what the fakes saw.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) step_time: Mutex<Duration>,
    pub(crate) text_time: Mutex<Duration>,
    /// Pictures with these seeds fail.
    pub(crate) bad_seeds: Mutex<Vec<u64>>,
    pub(crate) vae_channels: Mutex<Option<u32>>,
    pub(crate) texts: Mutex<Vec<String>>,
    pub(crate) denoised: Mutex<Vec<DenoiseRequest>>,
    /// Denoise calls that carried a deadline.
    pub(crate) deadlines: AtomicU32,
    /// Denoise streams that were dropped before their end.
    pub(crate) cancelled: AtomicU32,
}

pub(crate) struct FakeTextEncoder(pub(crate) Arc<Behaviour>);

#[tonic::async_trait]
impl TextEncoder for FakeTextEncoder {
    /// A token a word; six fit.
    async fn encode_text(&self, request: Request<EncodeTextRequest>) -> Result<Response<EncodeTextResponse>, Status> {
        let embed = |text: &String| {
            let words: Vec<&str> = text.split_whitespace().collect();
            TextEmbedding {
                prompt_embeds: Some(Tensor::from_f32(&[TOKENS, HIDDEN], &[text.len() as f32; TOKENS * HIDDEN])),
                token_count: words.len() as u32,
                dropped_text: words.get(TOKENS - 2..).unwrap_or_default().join(" "),
            }
        };
        let pause = *self.0.text_time.lock().unwrap();
        tokio::time::sleep(pause).await;
        let texts = request.into_inner().prompts;
        let embeddings = texts.iter().map(embed).collect();
        self.0.texts.lock().unwrap().extend(texts);
        Ok(Response::new(EncodeTextResponse { embeddings }))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<TextEncoderInfo>, Status> {
        Ok(Response::new(text_info()))
    }
}

pub(crate) struct FakeDenoiser(pub(crate) Arc<Behaviour>);

#[tonic::async_trait]
impl Denoiser for FakeDenoiser {
    type DenoiseStream = ReceiverStream<Result<DenoiseEvent, Status>>;

    async fn denoise(&self, request: Request<DenoiseRequest>) -> Result<Response<Self::DenoiseStream>, Status> {
        let behaviour = Arc::clone(&self.0);
        behaviour.deadlines.fetch_add(u32::from(request.metadata().contains_key("grpc-timeout")), Ordering::SeqCst);
        let request = request.into_inner();
        behaviour.denoised.lock().unwrap().push(request.clone());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for event in script(&request, &behaviour) {
                let pause = *behaviour.step_time.lock().unwrap();
                tokio::time::sleep(pause).await;
                if sender.send(event).await.is_err() {
                    behaviour.cancelled.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<DenoiserInfo>, Status> {
        Ok(Response::new(denoiser_info()))
    }

    async fn get_load(&self, _: Request<GetLoadRequest>) -> Result<Response<GetLoadResponse>, Status> {
        Ok(Response::new(GetLoadResponse::default()))
    }
}

/// All events of one picture.
fn script(request: &DenoiseRequest, behaviour: &Behaviour) -> Vec<Result<DenoiseEvent, Status>> {
    let (height, width) = (request.latent_height as usize, request.latent_width as usize);
    let of = request.num_inference_steps;
    let preview = |step: u32| {
        let asked = request.preview_every != 0 && step.is_multiple_of(request.preview_every);
        asked.then(|| Tensor::from_u8(&[height, width, 3], vec![200; height * width * 3]))
    };
    let mut events = vec![Event::Accepted(DenoiseAccepted { evaluations: of + 1 })];
    events.extend((1..=of).map(|step| Event::Step(DenoiseStep { step, of, preview: preview(step) })));
    let latents = Some(Tensor::from_f32(&[4, height, width], &vec![request.seed as f32; 4 * height * width]));
    events.push(Event::Finished(DenoiseFinished { latents, seconds: 0.1, queue_seconds: 0.0 }));
    let mut events: Vec<_> =
        events.into_iter().map(|event| Ok(DenoiseEvent { event: Some(event), attempt: request.attempt })).collect();
    if behaviour.bad_seeds.lock().unwrap().contains(&request.seed) {
        events.truncate(2);
        events.push(Err(Status::internal("the fake fails")));
    }
    events
}

pub(crate) struct FakeVae(pub(crate) Arc<Behaviour>);

#[tonic::async_trait]
impl Vae for FakeVae {
    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        let shape = request.into_inner().latents.unwrap_or_default().shape;
        let (height, width) = (shape[1] as usize * 8, shape[2] as usize * 8);
        let image = Some(Tensor::from_u8(&[height, width, 3], vec![90; height * width * 3]));
        Ok(Response::new(DecodeResponse { image }))
    }

    async fn encode(&self, _: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<VaeInfo>, Status> {
        let latent_channels = self.0.vae_channels.lock().unwrap().unwrap_or(4);
        Ok(Response::new(VaeInfo { latent_channels, ..vae_info() }))
    }
}
