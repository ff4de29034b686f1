//! Where the model stops: the UNet as the engine drives it, and what the edge needs to know of it.

use std::sync::Arc;

use darkroom_engine::{Budget, DenoiseModel, Denoiser, DenoiserOptions, LatentSize, Loaded, ModelError, Observer, Row};
use darkroom_models::config::Defaults;
use darkroom_models::source::LatentRgb;
use darkroom_models::stage::{self, Context, Device, UnetModel, UnetRow};
use darkroom_proto::v1::StageInfo;
use darkroom_samplers::NoiseSchedule;
use darkroom_stage_kit::model;

use crate::config::Config;
use crate::metrics::DenoiserMetrics;

/// What is known of the model once it is loaded.
pub(crate) struct DenoiserFacts {
    pub(crate) info: StageInfo,
    pub(crate) latent_channels: usize,
    pub(crate) cross_attention_dim: usize,
    pub(crate) schedule: NoiseSchedule,
    pub(crate) defaults: Defaults,
    pub(crate) latent_rgb: LatentRgb,
}

/// Starts the thread that loads, warms and owns the UNet.
pub(crate) fn start(
    config: &Config,
    metrics: Arc<DenoiserMetrics>,
) -> std::io::Result<(Denoiser, Loaded<DenoiserFacts>)> {
    let queue_limit = config.queue_limit as usize;
    let budget = Budget::pictures(config.max_batch as usize);
    let observer: Arc<dyn Observer> = metrics.clone();
    let options = DenoiserOptions { name: "unet".to_owned(), queue_limit, budget, observer };
    let args = config.model.clone();
    Denoiser::start(options, move || {
        let (source, compute) = model::open(&args)?;
        // Cheap and the likeliest to be wrong, so before the weights.
        let (schedule, defaults) = (NoiseSchedule::new(&source.schedule())?, source.defaults()?);
        let latent_rgb = source.latent_rgb()?;
        let mut unet = stage::load_unet(&source, &compute)?;
        unet.warm()?;
        metrics.follow(unet.text_memory());
        let facts = DenoiserFacts {
            info: model::stage_info(&source, unet.as_ref(), queue_limit),
            latent_channels: unet.in_channels(),
            cross_attention_dim: unet.cross_attention_dim(),
            schedule,
            defaults,
            latent_rgb,
        };
        let most_pixels = most_pixels(unet.identity().device);
        Ok((Unet { model: unet, most_pixels }, facts))
    })
}

/// The UNet behind the engine's trait.
struct Unet {
    model: Box<dyn UnetModel>,
    /// Latent pixels of all rows in one forward pass at most; a single row may have more.
    most_pixels: usize,
}

/// On a CPU a pass of eight 512×512 rows keeps all threads busy; more rows in it would only take more memory. Bits do not
/// depend on how rows are grouped.
fn most_pixels(device: Device) -> usize {
    match device {
        Device::Cpu => 8 * 64 * 64,
        Device::Cuda(_) | Device::Metal => usize::MAX,
    }
}

impl DenoiseModel for Unet {
    type Context = Context;

    fn prepare(&mut self, prompt_embeds: &[f32], tokens: usize) -> Result<Context, ModelError> {
        Ok(self.model.context(prompt_embeds, tokens)?)
    }

    fn predict(&mut self, rows: &[Row<'_, Context>], size: LatentSize) -> Result<Vec<Vec<f32>>, ModelError> {
        let rows: Vec<UnetRow<'_>> = rows
            .iter()
            .map(|row| UnetRow { latents: row.latents, timestep: row.timestep, context: row.context })
            .collect();
        let mut noise_pred = Vec::with_capacity(rows.len());
        let rows_at_once = (self.most_pixels / (size.height * size.width).max(1)).max(1);
        for rows in rows.chunks(rows_at_once) {
            noise_pred.extend(self.model.predict(rows, size.height, size.width)?);
        }
        Ok(noise_pred)
    }
}
