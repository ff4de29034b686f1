//! Where the model stops: the UNet as the engine drives it, and what the edge needs to know of it.

use std::sync::Arc;

use darkroom_engine::run::held_bytes;
use darkroom_engine::{
    Adapter, Cost, DenoiseModel, Denoiser, DenoiserOptions, Given, LatentSize, Loaded, ModelError, Observer, Ready, Row,
};
use darkroom_models::config::Defaults;
use darkroom_models::lora::LoraUse;
use darkroom_models::source::LatentRgb;
use darkroom_models::stage::{self, Context, Device, UnetModel, UnetRow};
use darkroom_proto::v1::{LoraFile, StageInfo};
use darkroom_samplers::{NoiseSchedule, PlanRequest};
use darkroom_service_kit::memory;
use darkroom_stage_kit::{loras, model};

use crate::config::Config;
use crate::metrics::DenoiserMetrics;
use crate::warm_up::{Limits, warm_up};

/// What is known of the model once it is loaded.
pub(crate) struct DenoiserFacts {
    pub(crate) info: StageInfo,
    pub(crate) latent_channels: usize,
    /// The UNet looks at a mask and a masked picture behind the latents.
    pub(crate) inpainting: bool,
    /// The UNet looks at the guidance scale; requests have no unconditional half.
    pub(crate) embeds_guidance: bool,
    pub(crate) cross_attention_dim: usize,
    pub(crate) schedule: NoiseSchedule,
    pub(crate) defaults: Defaults,
    pub(crate) latent_rgb: LatentRgb,
    /// Those that requests can name.
    pub(crate) loras: Vec<LoraFile>,
    /// Of the default size.
    pub(crate) latents: LatentSize,
    /// Guided pictures of the default size that run together.
    pub(crate) max_batch: usize,
    /// Latent pixels of all rows that run together.
    pub(crate) batch_pixels: usize,
}

impl DenoiserFacts {
    /// Rows of the default size that a full batch has.
    pub(crate) fn batch_rows(&self) -> usize {
        (self.batch_pixels / self.latents.pixels().max(1)).max(1)
    }
}

/// Starts the thread that loads, warms and owns the UNet.
pub(crate) fn start(
    config: &Config,
    metrics: Arc<DenoiserMetrics>,
) -> std::io::Result<(Denoiser, Loaded<DenoiserFacts>)> {
    let queue_limit = config.queue_limit as usize;
    let observer: Arc<dyn Observer> = metrics.clone();
    let options = DenoiserOptions { name: "unet".to_owned(), queue_limit, observer };
    let (args, folder) = (config.model.clone(), config.loras.clone());
    let (max_batch, memory_limit) = (config.max_batch, config.memory_limit_mib);
    Denoiser::start(options, move || {
        let (source, compute) = model::open(&args)?;
        // Cheap and the likeliest to be wrong, so before the weights.
        let (schedule, defaults) = (NoiseSchedule::new(&source.schedule())?, source.defaults()?);
        let (latent_rgb, factor) = (source.latent_rgb()?, source.vae_config()?.factor());
        let loras = loras::open(folder.as_deref(), &source)?;
        let mut unet = stage::load_unet_with(&source, &compute, &loras)?;
        let size = LatentSize { height: defaults.height / factor, width: defaults.width / factor };
        let warmed_up = warm_up(unet.as_mut(), size, max_batch.is_none())?;
        let limits =
            Limits { pictures: max_batch.map(|pictures| pictures as usize), bytes: memory_bytes(memory_limit) };
        let budget = warmed_up.budget(size, limits);
        metrics.warmed_up(budget, &warmed_up.measured);
        metrics.follow(unet.text_memory());
        let most_pixels = most_pixels(unet.identity().device);
        let unet = Unet { model: unet, most_pixels, token_bytes: warmed_up.token_bytes };
        let facts = DenoiserFacts {
            info: model::stage_info(&source, unet.model.as_ref(), queue_limit),
            latent_channels: unet.model.latent_channels(),
            inpainting: unet.model.in_channels() != unet.model.latent_channels(),
            embeds_guidance: unet.model.embeds_guidance(),
            cross_attention_dim: unet.model.cross_attention_dim(),
            latents: size,
            max_batch: budget.holds(&unet.usual_cost(&schedule, &defaults, size)?),
            batch_pixels: budget.pixels,
            schedule,
            defaults,
            latent_rgb,
            loras: loras::files(&loras),
        };
        tracing::info!(max_batch = facts.max_batch, pixels = budget.pixels, bytes = budget.bytes, "the batch's budget");
        Ok(Ready { model: unet, budget, measured: warmed_up.measured, info: facts })
    })
}

/// What running requests may hold, where the operator says nothing: half of what is free once the model is loaded. The other
/// half is for the passes' own buffers and for everybody else.
fn memory_bytes(limit_mib: Option<u32>) -> usize {
    match limit_mib {
        Some(mib) => (mib as usize).saturating_mul(1 << 20),
        None => memory::free().map_or(usize::MAX, |bytes| bytes / 2),
    }
}

/// The UNet behind the engine's trait.
struct Unet {
    model: Box<dyn UnetModel>,
    /// Latent pixels of all rows in one forward pass at most; a single row may have more.
    most_pixels: usize,
    /// Memory of a prepared text, for each of its tokens.
    token_bytes: usize,
}

impl Unet {
    /// What a guided picture of the default `size` takes.
    fn usual_cost(&self, schedule: &NoiseSchedule, defaults: &Defaults, size: LatentSize) -> Result<Cost, ModelError> {
        const ROWS: usize = 2;
        const TOKENS: usize = 77;
        let (sampler, num_inference_steps) = (defaults.sampler, defaults.num_inference_steps);
        let plan = schedule.plan(&PlanRequest::new(sampler, num_inference_steps))?;
        let elements = self.model.latent_channels() * size.pixels();
        let bytes = held_bytes(&plan, elements, &Given::default(), ROWS) + ROWS * self.context_bytes(TOKENS);
        Ok(Cost { size, rows: ROWS, bytes })
    }
}

/// On a CPU a pass of eight 512×512 rows keeps all threads busy; more rows in it would only take more memory. Bits do not
/// depend on how rows are grouped.
fn most_pixels(device: Device) -> usize {
    match device {
        Device::Cpu => 8 * 64 * 64,
        Device::Cuda(_) | Device::Metal => usize::MAX,
    }
}

fn uses(adapters: &[Adapter]) -> Vec<LoraUse> {
    adapters.iter().map(|Adapter { name, weight }| LoraUse { name: name.clone(), weight: *weight }).collect()
}

impl DenoiseModel for Unet {
    type Context = Context;

    fn prepare(&mut self, prompt_embeds: &[f32], tokens: usize, adapters: &[Adapter]) -> Result<Context, ModelError> {
        Ok(self.model.context_with(prompt_embeds, tokens, &uses(adapters))?)
    }

    fn context_bytes(&self, tokens: usize) -> usize {
        self.token_bytes.saturating_mul(tokens)
    }

    fn adapter_bytes(&self, adapters: &[Adapter]) -> usize {
        if adapters.is_empty() { 0 } else { self.model.adapter_bytes(&uses(adapters)) }
    }

    fn predict(&mut self, rows: &[Row<'_, Context>], size: LatentSize) -> Result<Vec<Vec<f32>>, ModelError> {
        let rows: Vec<UnetRow<'_>> = rows
            .iter()
            .map(|row| UnetRow {
                latents: row.latents,
                timestep: row.timestep,
                context: row.context,
                guidance_scale: row.guidance_scale,
            })
            .collect();
        let mut noise_pred = Vec::with_capacity(rows.len());
        let rows_at_once = (self.most_pixels / (size.height * size.width).max(1)).max(1);
        for rows in rows.chunks(rows_at_once) {
            noise_pred.extend(self.model.predict(rows, size.height, size.width)?);
        }
        Ok(noise_pred)
    }
}
