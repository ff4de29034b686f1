//! Darkroom's half of `golden/full_size.py` and `bench/accuracy.py`: reads a model and inputs, writes what the networks make of them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
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
    /// Pairs of safetensors files: inputs to read, outputs to write. Each network is loaded once for all of them.
    ///
    /// token_ids go through the text encoder; latents with timesteps through the UNet, with prompt_embeds or else what became of the
    /// token_ids; scaled_latents through the decoder; an image through the encoder. What is not there is not computed.
    #[arg(required = true, num_args = 2.., value_names = ["INPUTS", "OUTPUTS"])]
    files: Vec<PathBuf>,
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
    let (pairs, rest) = arguments.files.as_chunks::<2>();
    ensure!(rest.is_empty(), "the last file of inputs has no file for its outputs");
    let files = pairs.iter().map(|[inputs, _]| std::fs::read(inputs)).collect::<Result<Vec<_>, _>>()?;
    let mut cases = files.iter().map(|bytes| Case::new(bytes)).collect::<Result<Vec<_>>>()?;

    encode_texts(&source, &options, &mut cases)?;
    predict_noise(&source, &options, &mut cases)?;
    code_pictures(&source, &options, &mut cases)?;
    cases.iter().zip(pairs).try_for_each(|(case, [_, path])| case.write(path))
}

fn encode_texts(source: &ModelSource, options: &ComputeOptions, cases: &mut [Case<'_>]) -> Result<()> {
    let mut text_encoder = stage::load_text_encoder(source, options)?;
    for case in cases.iter_mut().filter(|case| case.has("token_ids")) {
        let (ids, shape) = case.input("token_ids")?;
        let ids: Vec<Vec<u32>> =
            ids.chunks_exact(shape[1]).map(|row| row.iter().map(|id| *id as u32).collect()).collect();
        let began = Instant::now();
        let prompt_embeds = text_encoder.encode(&ids, 0)?;
        case.push("prompt_embeds", prompt_embeds.concat(), began);
    }
    Ok(())
}

/// One batch with a timestep a row, and the texts in turn.
fn predict_noise(source: &ModelSource, options: &ComputeOptions, cases: &mut [Case<'_>]) -> Result<()> {
    let mut unet = stage::load_unet(source, options)?;
    for case in cases.iter_mut().filter(|case| case.has("latents")) {
        let (prompt_embeds, tokens) = case.prompt_embeds(unet.cross_attention_dim())?;
        let texts: Vec<_> = prompt_embeds
            .chunks_exact(tokens * unet.cross_attention_dim())
            .map(|embeds| unet.context(embeds, tokens))
            .collect::<Result<_, _>>()?;
        let (latents, shape) = case.input("latents")?;
        let timesteps = case.input("timesteps")?.0;
        let rows: Vec<UnetRow<'_>> = latents
            .chunks_exact(latents.len() / shape[0])
            .zip(&timesteps)
            .zip(texts.iter().cycle())
            .map(|((latents, timestep), context)| UnetRow {
                latents,
                timestep: *timestep,
                context,
                guidance_scale: None,
            })
            .collect();
        let began = Instant::now();
        let noise_pred = unet.predict(&rows, shape[2], shape[3])?.concat();
        case.push("noise_pred", noise_pred, began);
    }
    Ok(())
}

fn code_pictures(source: &ModelSource, options: &ComputeOptions, cases: &mut [Case<'_>]) -> Result<()> {
    let mut vae = stage::load_vae(source, options)?;
    for case in cases {
        if case.has("scaled_latents") {
            let (latents, shape) = case.input("scaled_latents")?;
            let began = Instant::now();
            let decoded = vae.decode(&latents, shape[1], shape[2])?;
            case.push("decoded", decoded, began);
        }
        if case.has("image") {
            let (image, shape) = case.input("image")?;
            let began = Instant::now();
            let posterior = vae.encode(&image, shape[1], shape[2])?;
            case.push("posterior_mean", posterior.mean, began);
            case.push("posterior_std", posterior.std, began);
        }
    }
    Ok(())
}

/// A file of inputs, and what became of them.
struct Case<'a> {
    inputs: SafeTensors<'a>,
    outputs: Vec<(&'static str, Vec<f32>)>,
}

impl<'a> Case<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { inputs: SafeTensors::deserialize(bytes)?, outputs: Vec::new() })
    }

    fn has(&self, name: &str) -> bool {
        self.inputs.tensor(name).is_ok()
    }

    /// Values (token ids too, which f32 holds exactly) and shape.
    fn input(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let tensor = self.inputs.tensor(name)?;
        let words = tensor.data().as_chunks::<4>().0.iter();
        let values = match tensor.dtype() {
            Dtype::I32 => words.map(|word| i32::from_le_bytes(*word) as f32).collect(),
            _ => words.map(|word| f32::from_le_bytes(*word)).collect(),
        };
        Ok((values, tensor.shape().to_vec()))
    }

    /// Those given, or else those that the text encoder made, of `width` features a token; and how many tokens a text has.
    fn prompt_embeds(&self, width: usize) -> Result<(Vec<f32>, usize)> {
        if self.has("prompt_embeds") {
            let (values, shape) = self.input("prompt_embeds")?;
            ensure!(shape.len() == 3 && shape[2] == width, "prompt_embeds is {shape:?}; expected {width} features");
            return Ok((values, shape[1]));
        }
        let made = self.outputs.iter().find(|(name, _)| *name == "prompt_embeds");
        let (_, values) = made.context("latents need prompt_embeds or token_ids beside them")?;
        Ok((values.clone(), self.input("token_ids")?.1[1]))
    }

    fn push(&mut self, name: &'static str, values: Vec<f32>, began: Instant) {
        eprintln!("darkroom {name}: {:.1} s", began.elapsed().as_secs_f64());
        self.outputs.push((name, values));
    }

    /// Flat: the script knows the shapes.
    fn write(&self, path: &Path) -> Result<()> {
        let outputs: Vec<(&str, usize, Vec<u8>)> = self
            .outputs
            .iter()
            .map(|(name, values)| (*name, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = outputs
            .iter()
            .map(|(name, len, bytes)| Ok((*name, TensorView::new(Dtype::F32, vec![*len], bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize_to_file(views, None, path)?)
    }
}
