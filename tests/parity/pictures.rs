//! Whole pictures of the pocket model against diffusers' pipeline: tokens, text encoder, noise, sampler, UNet, guidance and
//! decoder in one, by a loop that knows nothing of services and batches.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use darkroom_models::noise::{Generator, Rng};
use darkroom_models::source::ModelSource;
use darkroom_models::stage::{self, Context, TextEncoderModel, UnetModel, UnetRow, VaeModel};
use darkroom_models::tokenizer::Tokenizer;
use darkroom_samplers::{NoiseSchedule, Plan, PlanRequest, Source};
use serde::Deserialize;

use crate::golden::{EXACT, folder};

/// Latents of a 128×128 picture.
const SIDE: usize = 16;

/// `pictures.json`.
#[derive(Deserialize)]
struct Picture {
    file: String,
    sampler: String,
    num_inference_steps: usize,
    prompt: String,
    negative_prompt: String,
    seed: u64,
    guidance_scale: f32,
}

#[test]
fn pictures_are_those_of_the_diffusers_pipeline() -> Result<()> {
    let folder = folder("pocket");
    let pictures: Vec<Picture> = serde_json::from_slice(&std::fs::read(folder.join("pictures.json"))?)?;
    let mut pipeline = Pipeline::load()?;
    for picture in &pictures {
        let began = Instant::now();
        let found = pipeline.generate(picture).with_context(|| picture.file.clone())?;
        let seconds = began.elapsed().as_secs_f64();
        let expected = image::open(folder.join(&picture.file))?.into_rgb8().into_raw();
        check(&picture.file, &found, &expected, seconds)?;
    }
    Ok(())
}

/// The bound of the whole picture in f32: one level of 255 for 99.9 % of the values.
fn check(what: &str, found: &[u8], expected: &[u8], seconds: f64) -> Result<()> {
    ensure!(found.len() == expected.len(), "{what} has {} values, not {}", found.len(), expected.len());
    let differences: Vec<u8> = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).collect();
    let (other, far) =
        differences.iter().fold((0, 0), |(other, far), d| (other + usize::from(*d > 0), far + usize::from(*d > 1)));
    let largest = differences.iter().max().copied().unwrap_or(0);
    println!("{what}: {seconds:.2} s, {other} of {} values differ, by {largest} at most", found.len());
    ensure!(far * 1000 <= found.len(), "{what}: {far} of {} values are off by more than one level", found.len());
    Ok(())
}

struct Pipeline {
    tokenizer: Tokenizer,
    schedule: NoiseSchedule,
    text_encoder: Box<dyn TextEncoderModel>,
    unet: Box<dyn UnetModel>,
    vae: Box<dyn VaeModel>,
}

impl Pipeline {
    fn load() -> Result<Self> {
        let source = ModelSource::resolve(Some("pocket"), Default::default())?;
        Ok(Self {
            tokenizer: source.tokenizer()?,
            schedule: NoiseSchedule::new(&source.schedule())?,
            text_encoder: stage::load_text_encoder(&source, &EXACT)?,
            unet: stage::load_unet(&source, &EXACT)?,
            vae: stage::load_vae(&source, &EXACT)?,
        })
    }

    fn generate(&mut self, picture: &Picture) -> Result<Vec<u8>> {
        let prompt = self.context(&picture.prompt)?;
        let negative = self.context(&picture.negative_prompt)?;
        let request = PlanRequest::new(picture.sampler.parse()?, picture.num_inference_steps);
        let plan = self.schedule.plan(&request)?;
        let latents = self.denoise(&plan, [&negative, &prompt], picture)?;
        let image = self.vae.decode(&latents, SIDE, SIDE)?;
        Ok(interleaved(&image))
    }

    fn context(&mut self, text: &str) -> Result<Context> {
        let ids = self.tokenizer.encode(text).ids;
        let embeds = self.text_encoder.encode(&[ids], 0)?.concat();
        Ok(self.unet.context(&embeds, self.text_encoder.max_tokens())?)
    }

    /// The plan, evaluation by evaluation, with classifier-free guidance.
    fn denoise(&mut self, plan: &Plan, [negative, prompt]: [&Context; 2], picture: &Picture) -> Result<Vec<f32>> {
        let count = self.unet.latent_channels() * SIDE * SIDE;
        let mut noise = Generator::new(Rng::Cpu, picture.seed);
        let mut states = vec![vec![0.0f32; count]; plan.num_states];
        states[0] = noise.randn(count).iter().map(|value| value * plan.initial.noise as f32).collect();
        for evaluation in &plan.evaluations {
            let input: Vec<f32> =
                states[evaluation.input].iter().map(|value| value * evaluation.input_scale as f32).collect();
            let row =
                |context| UnetRow { latents: &input, timestep: evaluation.timestep, context, guidance_scale: None };
            let predicted = self.unet.predict(&[row(negative), row(prompt)], SIDE, SIDE)?;
            let guided: Vec<f32> = predicted[0]
                .iter()
                .zip(&predicted[1])
                .map(|(without, with)| without + picture.guidance_scale * (with - without))
                .collect();
            let before = states.clone();
            // Draws are numbered and read in order, each in one evaluation.
            let draws = evaluation.updates.iter().flat_map(|update| &update.terms);
            let draws_noise = draws.filter(|term| matches!(term.source, Source::Noise(_))).count() > 0;
            let drawn = if draws_noise { noise.randn(count) } else { Vec::new() };
            for update in &evaluation.updates {
                let sum = |index: usize| {
                    let value = |source: &Source| match source {
                        Source::State(id) => before[*id][index],
                        Source::ModelOutput => guided[index],
                        Source::Noise(_) => drawn[index],
                    };
                    update.terms.iter().map(|term| term.coefficient * f64::from(value(&term.source))).sum::<f64>()
                        as f32
                };
                states[update.target] = (0..count).map(sum).collect();
            }
        }
        Ok(states.swap_remove(0))
    }
}

/// `[3, h, w]` in −1..1 → `h · w` RGB pixels, rounded as diffusers does.
fn interleaved(image: &[f32]) -> Vec<u8> {
    let pixels = image.len() / 3;
    let level = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    (0..pixels).flat_map(|pixel| (0..3).map(move |channel| level(image[channel * pixels + pixel]))).collect()
}
