//! Darkroom's half of `tests/golden/full_size.py`: reads a model and inputs, writes what the three networks make of them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use darkroom_models::source::ModelSource;
use darkroom_models::stage::{self, ComputeOptions, UnetRow};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// Runs a model's networks on given inputs.
#[derive(Parser)]
struct Arguments {
    /// A diffusers folder.
    model: PathBuf,
    /// A safetensors file with token_ids, timesteps, latents, scaled_latents and image.
    inputs: PathBuf,
    /// The safetensors file to write.
    outputs: PathBuf,
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    device: stage::Device,
    /// In what precision.
    #[arg(long, default_value = "f32")]
    precision: stage::Precision,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = ComputeOptions { device: arguments.device, precision: arguments.precision, threads: None };
    let model = arguments.model.to_str().context("the model's path is not UTF-8")?;
    let source = ModelSource::resolve(Some(model), Default::default())?;
    let inputs = std::fs::read(&arguments.inputs)?;
    let inputs = Inputs(SafeTensors::deserialize(&inputs)?);
    let mut outputs = Outputs::default();

    let began = Instant::now();
    let prompt_embeds = text_encoder(&source, &options, &inputs)?;
    outputs.push("prompt_embeds", prompt_embeds.concat(), began);

    let began = Instant::now();
    outputs.push("noise_pred", unet(&source, &options, &inputs, &prompt_embeds)?, began);

    let began = Instant::now();
    let mut vae = stage::load_vae(&source, &options)?;
    let (latents, shape) = inputs.tensor("scaled_latents")?;
    outputs.push("decoded", vae.decode(&latents, shape[1], shape[2])?, began);

    let began = Instant::now();
    let (image, shape) = inputs.tensor("image")?;
    let posterior = vae.encode(&image, shape[1], shape[2])?;
    outputs.push("posterior_mean", posterior.mean, began);
    outputs.push("posterior_std", posterior.std, began);
    outputs.write(&arguments.outputs)
}

fn text_encoder(source: &ModelSource, options: &ComputeOptions, inputs: &Inputs<'_>) -> Result<Vec<Vec<f32>>> {
    let (ids, shape) = inputs.tensor("token_ids")?;
    let ids: Vec<Vec<u32>> = ids.chunks_exact(shape[1]).map(|row| row.iter().map(|id| *id as u32).collect()).collect();
    Ok(stage::load_text_encoder(source, options)?.encode(&ids, 0)?)
}

/// One batch with a timestep a row, and the texts in turn.
fn unet(
    source: &ModelSource,
    options: &ComputeOptions,
    inputs: &Inputs<'_>,
    prompt_embeds: &[Vec<f32>],
) -> Result<Vec<f32>> {
    let mut unet = stage::load_unet(source, options)?;
    let tokens = inputs.tensor("token_ids")?.1[1];
    let texts: Vec<_> = prompt_embeds.iter().map(|embeds| unet.context(embeds, tokens)).collect::<Result<_, _>>()?;
    let (latents, shape) = inputs.tensor("latents")?;
    let timesteps = inputs.tensor("timesteps")?.0;
    let rows: Vec<UnetRow<'_>> = latents
        .chunks_exact(latents.len() / shape[0])
        .zip(&timesteps)
        .zip(texts.iter().cycle())
        .map(|((latents, timestep), context)| UnetRow { latents, timestep: *timestep, context })
        .collect();
    Ok(unet.predict(&rows, shape[2], shape[3])?.concat())
}

struct Inputs<'a>(SafeTensors<'a>);

impl Inputs<'_> {
    /// Values (token ids too, which f32 holds exactly) and shape.
    fn tensor(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let tensor = self.0.tensor(name)?;
        let words = tensor.data().as_chunks::<4>().0.iter();
        let values = match tensor.dtype() {
            Dtype::I32 => words.map(|word| i32::from_le_bytes(*word) as f32).collect(),
            _ => words.map(|word| f32::from_le_bytes(*word)).collect(),
        };
        Ok((values, tensor.shape().to_vec()))
    }
}

#[derive(Default)]
struct Outputs(Vec<(&'static str, usize, Vec<u8>)>);

impl Outputs {
    fn push(&mut self, name: &'static str, values: Vec<f32>, began: Instant) {
        eprintln!("darkroom {name}: {:.1} s", began.elapsed().as_secs_f64());
        self.0.push((name, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }

    /// Flat: the script knows the shapes.
    fn write(&self, path: &Path) -> Result<()> {
        let views = self
            .0
            .iter()
            .map(|(name, len, bytes)| Ok((*name, TensorView::new(Dtype::F32, vec![*len], bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize_to_file(views, None, path)?)
    }
}
