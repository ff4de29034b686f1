//! The gRPC edge: messages in, messages out, nothing of them beyond.

use std::pin::Pin;
use std::sync::Arc;

use darkroom_engine::Denoiser;
use darkroom_proto::v1::{self, denoiser_server};
use darkroom_samplers::{Cost, Plan, Sampler};
use darkroom_service_kit::deadline;
use darkroom_stage_kit::facts::Facts;
use darkroom_stage_kit::refusal;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::STAGE;
use crate::config::Config;
use crate::events::Messages;
use crate::metrics::DenoiserMetrics;
use crate::request;
use crate::stage::DenoiserFacts;

/// Rows of a guided picture.
const GUIDED: usize = 2;

pub(crate) struct DenoiserService {
    engine: Arc<Denoiser>,
    facts: Facts<DenoiserFacts>,
    metrics: Arc<DenoiserMetrics>,
    max_latent_side: u32,
}

impl DenoiserService {
    pub(crate) fn new(
        engine: Arc<Denoiser>,
        facts: Facts<DenoiserFacts>,
        metrics: Arc<DenoiserMetrics>,
        config: &Config,
    ) -> Self {
        Self { engine, facts, metrics, max_latent_side: config.max_latent_side }
    }
}

#[tonic::async_trait]
impl denoiser_server::Denoiser for DenoiserService {
    type DenoiseStream = Pin<Box<dyn Stream<Item = Result<v1::DenoiseEvent, Status>> + Send>>;

    async fn denoise(&self, call: Request<v1::DenoiseRequest>) -> Result<Response<Self::DenoiseStream>, Status> {
        let deadline = deadline::of(&call);
        let message = call.into_inner();
        let facts = self.facts.get()?;
        self.metrics.stage.received(message.prompt_embeds.as_ref());
        self.metrics.stage.received(message.negative_prompt_embeds.as_ref());
        if let Some(init) = &message.init {
            for tensor in [&init.latents, &init.mask, &init.masked_latents] {
                self.metrics.stage.received(tensor.as_ref());
            }
        }
        let request = request::checked(facts, self.max_latent_side, &message)?;
        let messages = Messages {
            size: request.size,
            channels: request.channels,
            latent_rgb: facts.latent_rgb.clone(),
            attempt: message.attempt,
        };
        let accepted = messages.accepted(request.evaluations());
        let events = self.engine.submit(request, deadline).map_err(|error| refusal::refused(STAGE, &error))?;
        if let Some(checkpoint) = &message.resume_from {
            let tensors = checkpoint.states.iter().filter_map(|state| state.tensor.as_ref());
            self.metrics.checkpoint_received(tensors.map(|tensor| tensor.data.len()).sum());
            let (request_id, attempt, evaluation) = (&message.request_id, message.attempt, checkpoint.evaluation);
            tracing::info!(request_id, attempt, evaluation, "goes on from a checkpoint");
        } else {
            tracing::debug!(request_id = message.request_id, attempt = message.attempt, "accepted");
        }
        let metrics = Arc::clone(&self.metrics);
        let events = events.map(move |event| messages.of(event, &metrics));
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(accepted)).chain(events))))
    }

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::DenoiserInfo>, Status> {
        let facts = self.facts.get()?;
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let defaults = &facts.defaults;
        Ok(Response::new(v1::DenoiserInfo {
            stage: Some(facts.info.clone()),
            latent_channels: count(facts.latent_channels),
            cross_attention_dim: count(facts.cross_attention_dim),
            samplers: Sampler::ALL.iter().map(ToString::to_string).collect(),
            defaults: Some(v1::GenerationDefaults {
                width: count(defaults.width),
                height: count(defaults.height),
                guidance_scale: defaults.guidance_scale,
                num_inference_steps: count(defaults.num_inference_steps),
                sampler: defaults.sampler.to_string(),
            }),
            max_latent_side: self.max_latent_side,
            // Upsamplers match the size of their skip connection, so any size goes through the UNet.
            latent_multiple: 1,
            max_batch: count(facts.max_batch),
            plan_version: Plan::VERSION,
            batch_pixels: facts.batch_pixels as u64,
            sampler_costs: Sampler::ALL.iter().map(|sampler| sampler_cost(sampler, facts)).collect(),
            inpainting: facts.inpainting,
            embedded_guidance: facts.embeds_guidance,
            loras: facts.loras.clone(),
        }))
    }

    async fn get_load(&self, _: Request<v1::GetLoadRequest>) -> Result<Response<v1::GetLoadResponse>, Status> {
        let load = self.engine.load();
        // It is asked before the model is loaded too.
        let facts = self.facts.get().ok();
        let evaluation = |rows: fn(&DenoiserFacts) -> usize| {
            facts.map_or(0.0, |facts| self.engine.evaluation_seconds(facts.latents, rows(facts)))
        };
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Response::new(v1::GetLoadResponse {
            running: count(load.running),
            waiting: count(load.waiting),
            remaining_evaluations: load.remaining_evaluations,
            step_seconds: load.step_seconds,
            remaining_seconds: load.remaining_seconds,
            draining: load.draining,
            picture_seconds: evaluation(|_| GUIDED),
            batch_seconds: evaluation(DenoiserFacts::batch_rows),
            running_pixels: load.running_pixels as u64,
        }))
    }
}

fn sampler_cost(sampler: &Sampler, facts: &DenoiserFacts) -> v1::SamplerCost {
    let Cost { evaluations_per_step, extra_evaluations } = sampler.cost();
    let most_steps = sampler.most_steps(facts.schedule.num_train_timesteps());
    v1::SamplerCost {
        sampler: sampler.to_string(),
        evaluations_per_step,
        extra_evaluations,
        max_steps: u32::try_from(most_steps).unwrap_or(u32::MAX),
        sigma_spacings: sampler.sigma_spacings().iter().map(ToString::to_string).collect(),
    }
}
