//! A loaded stage, and the round that it is measured by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_models::noise::{Generator, Rng};
use darkroom_models::source::ModelSource;
use darkroom_models::stage::{self, ComputeOptions, Division, Identity, ModelError, Timings, UnetRow, VaeModel};

use super::flags::Stage;

/// The middle of the noise schedule. No timestep takes longer than another.
const TIMESTEP: f32 = 500.0;
const SEED: u64 = 0;
/// With and without the prompt: a guided step evaluates both.
const GUIDED: usize = 2;

/// What is computed in a round.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) stage: Stage,
    /// Pixels, multiples of the autoencoder's factor; nothing to the text encoder.
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Pixels along one side of a latent.
    pub(crate) factor: usize,
    /// Pictures.
    pub(crate) batch: usize,
    /// Large pictures are not computed in bands.
    pub(crate) undivided: bool,
}

/// A stage of a model with its input.
pub(crate) struct Workload {
    pub(crate) identity: Identity,
    /// What reading and packing the weights took.
    pub(crate) load: Duration,
    /// Computes the same again.
    pub(crate) round: Box<dyn FnMut() -> Result<(), ModelError>>,
}

impl Workload {
    /// Loads the stage and makes its input of seeded noise.
    pub(crate) fn prepare(
        job: Job,
        source: &ModelSource,
        options: &ComputeOptions,
        timings: &Arc<Timings>,
    ) -> anyhow::Result<Self> {
        match job.stage {
            Stage::Unet => Self::unet(job, source, options, timings),
            Stage::Vae => Self::vae(job, source, options, timings),
            Stage::Text => Self::text(job, source, options, timings),
            Stage::VaeEncoder => Self::vae_encoder(job, source, options, timings),
        }
    }

    /// The texts are prepared here, as a denoiser does once a request and not in every step.
    fn unet(job: Job, source: &ModelSource, options: &ComputeOptions, timings: &Arc<Timings>) -> anyhow::Result<Self> {
        let tokens = source.text_encoder_config()?.max_position_embeddings;
        let began = Instant::now();
        let mut unet = stage::load_unet_timed(source, options, timings)?;
        let load = began.elapsed();

        let (height, width) = (job.height / job.factor, job.width / job.factor);
        let mut noise = Generator::new(Rng::Cpu, SEED);
        let latents: Vec<Vec<f32>> = (0..job.batch).map(|_| noise.randn(unet.in_channels() * height * width)).collect();
        let per_picture = if unet.embeds_guidance() { 1 } else { GUIDED };
        let guidance_scale = unet.embeds_guidance().then_some(1.0);
        let contexts = (0..per_picture * job.batch)
            .map(|_| unet.context(&noise.randn(tokens * unet.cross_attention_dim()), tokens))
            .collect::<Result<Vec<_>, _>>()?;
        let identity = unet.identity().clone();
        let round = move || {
            let rows: Vec<UnetRow<'_>> = contexts
                .iter()
                .enumerate()
                .map(|(row, context)| {
                    let latents = &latents[row / per_picture];
                    UnetRow { latents, timestep: TIMESTEP, context, guidance_scale }
                })
                .collect();
            unet.predict(&rows, height, width).map(drop)
        };
        Ok(Self { identity, load, round: Box::new(round) })
    }

    fn vae(job: Job, source: &ModelSource, options: &ComputeOptions, timings: &Arc<Timings>) -> anyhow::Result<Self> {
        let (mut vae, load) = load_vae(job, source, options, timings)?;
        let (height, width) = (job.height / job.factor, job.width / job.factor);
        let latents = Generator::new(Rng::Cpu, SEED).randn(vae.latent_channels() * height * width);
        let identity = vae.identity().clone();
        let round = move || (0..job.batch).try_for_each(|_| vae.decode(&latents, height, width).map(drop));
        Ok(Self { identity, load, round: Box::new(round) })
    }

    fn vae_encoder(
        job: Job,
        source: &ModelSource,
        options: &ComputeOptions,
        timings: &Arc<Timings>,
    ) -> anyhow::Result<Self> {
        let (mut vae, load) = load_vae(job, source, options, timings)?;
        let Job { height, width, .. } = job;
        let noise = Generator::new(Rng::Cpu, SEED).randn(source.vae_config()?.in_channels * height * width);
        let picture: Vec<f32> = noise.into_iter().map(|value| value.clamp(-1.0, 1.0)).collect();
        let identity = vae.identity().clone();
        let round = move || (0..job.batch).try_for_each(|_| vae.encode(&picture, height, width).map(drop));
        Ok(Self { identity, load, round: Box::new(round) })
    }

    fn text(job: Job, source: &ModelSource, options: &ComputeOptions, timings: &Arc<Timings>) -> anyhow::Result<Self> {
        let vocabulary = source.text_encoder_config()?.vocab_size;
        let began = Instant::now();
        let mut text_encoder = stage::load_text_encoder_timed(source, options, timings)?;
        let load = began.elapsed();

        let mut noise = Generator::new(Rng::Cpu, SEED);
        let count = text_encoder.max_tokens();
        // Noise is seldom above 4, so this spreads ids over the vocabulary.
        let id = |value: f32| (value.abs() / 4.0 * vocabulary as f32) as usize % vocabulary;
        let prompt = |_| noise.randn(count).into_iter().map(|value| Ok(u32::try_from(id(value))?)).collect();
        let ids: Vec<Vec<u32>> = (0..GUIDED * job.batch).map(prompt).collect::<anyhow::Result<_>>()?;
        let identity = text_encoder.identity().clone();
        let round = move || text_encoder.encode(&ids, 0).map(drop);
        Ok(Self { identity, load, round: Box::new(round) })
    }
}

/// The autoencoder and what loading it took.
fn load_vae(
    job: Job,
    source: &ModelSource,
    options: &ComputeOptions,
    timings: &Arc<Timings>,
) -> anyhow::Result<(Box<dyn VaeModel>, Duration)> {
    let began = Instant::now();
    let mut vae = stage::load_vae_timed(source, options, timings)?;
    if job.undivided {
        vae.divide(Division { undivided_pixels: usize::MAX, ..Division::default() });
    }
    Ok((vae, began.elapsed()))
}
