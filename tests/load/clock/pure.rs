//! The two stages that keep nothing: texts to embeddings, latents to pictures.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::{self, Dtype, Tensor, text_encoder_server, vae_server};
use darkroom_service_kit::status::{self, invalid_argument};
use darkroom_stage_kit::refusal;
use tokio::time::sleep_until;
use tonic::{Request, Response, Status};

use super::facts::Facts;
use super::latents::Digest;
use super::line::Line;

const MOST_PROMPTS: usize = 16;

/// What a clock's text encoder makes of a text.
#[must_use]
pub fn embedding(text: &str) -> Tensor {
    Digest::of_text(text).tensor(&[Facts::TOKENS, Facts::WIDTH], None)
}

/// A stage that answers in its turn.
pub(super) struct Pure {
    facts: Facts,
    line: Mutex<Line>,
}

impl Pure {
    pub(super) fn new(facts: &Facts, seconds: f64) -> Self {
        let each = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self { facts: facts.clone(), line: Mutex::new(Line::new(each, facts.queue_limit)) }
    }

    async fn turn(&self) -> Result<(), Status> {
        let now = Instant::now();
        let entered = self.line.lock().unwrap_or_else(PoisonError::into_inner).enter(now);
        let ends = entered.map_err(|delay| status::exhausted("the clock's queue is full", delay))?;
        if ends > now {
            sleep_until(ends.into()).await;
        }
        Ok(())
    }
}

/// Texts to embeddings.
pub(super) struct ClockTextEncoder(pub(super) Pure);

#[tonic::async_trait]
impl text_encoder_server::TextEncoder for ClockTextEncoder {
    async fn encode_text(
        &self,
        call: Request<v1::EncodeTextRequest>,
    ) -> Result<Response<v1::EncodeTextResponse>, Status> {
        let prompts = call.into_inner().prompts;
        if !(1..=MOST_PROMPTS).contains(&prompts.len()) {
            return Err(invalid_argument("prompts", format!("{} are not 1 to {MOST_PROMPTS}", prompts.len())));
        }
        self.0.turn().await?;
        let embed = |text: &String| v1::TextEmbedding {
            prompt_embeds: Some(embedding(text)),
            token_count: u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX),
            dropped_text: String::new(),
            dropped_tokens: 0,
        };
        Ok(Response::new(v1::EncodeTextResponse { embeddings: prompts.iter().map(embed).collect() }))
    }

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::TextEncoderInfo>, Status> {
        Ok(Response::new(self.0.facts.text_encoder()))
    }
}

/// Latents to pictures of one grey.
pub(super) struct ClockVae(pub(super) Pure);

#[tonic::async_trait]
impl vae_server::Vae for ClockVae {
    async fn decode(&self, call: Request<v1::DecodeRequest>) -> Result<Response<v1::DecodeResponse>, Status> {
        let latents = call.into_inner().latents;
        let view = TensorView::required(latents.as_ref(), "latents").and_then(|view| view.expect_dtype(Dtype::F32));
        let view = view.map_err(|error| refusal::tensor(&error))?;
        let most = Facts::MAX_LATENT_SIDE as usize;
        let [Facts::CHANNELS, height, width] = *view.shape() else {
            return Err(invalid_argument("latents", format!("{:?} are none", view.shape())));
        };
        if height.max(width) > most {
            return Err(invalid_argument("latents", format!("{height}×{width} are more than {most}×{most}")));
        }
        self.0.turn().await?;
        let grey = latents.as_ref().and_then(Digest::read).map_or(128, |digest| digest.0 as u8);
        let (height, width) = (height * Facts::FACTOR, width * Facts::FACTOR);
        let image = Tensor::from_u8(&[height, width, 3], vec![grey; height * width * 3]);
        Ok(Response::new(v1::DecodeResponse { image: Some(image), safety: v1::SafetyVerdict::NotChecked.into() }))
    }

    async fn encode(&self, _: Request<v1::EncodeRequest>) -> Result<Response<v1::EncodeResponse>, Status> {
        Err(Status::unimplemented("nothing that is measured here encodes pictures"))
    }

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::VaeInfo>, Status> {
        Ok(Response::new(self.0.facts.vae()))
    }
}
