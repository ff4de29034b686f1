//! Text encoder, UNet and autoencoder against transformers and diffusers, on the same weights: in f32 within a bound, in bf16 no
//! further from f32 than diffusers itself is in bf16.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use darkroom_models::source::ModelSource;
use darkroom_models::stage::{self, ComputeOptions, Division, Precision, UnetRow, VaeModel};

use crate::golden::{Bound, EXACT, Golden, TINY};
use crate::layouts::Tiny;

/// What a network made of golden inputs, by the names of the golden outputs.
type Outputs = Vec<(&'static str, Vec<f32>)>;
type Network = fn(&ModelSource, &ComputeOptions, &Golden) -> Result<Outputs>;

#[test]
fn text_encoder_of_the_tiny_model() -> Result<()> {
    check(text_encoder, &Tiny::folder()?.source()?, "tiny")
}

#[test]
fn text_encoder_of_the_pocket_model() -> Result<()> {
    check(text_encoder, &pocket()?, "pocket")
}

#[test]
fn unet_of_the_tiny_model() -> Result<()> {
    check(unet, &Tiny::folder()?.source()?, "tiny")
}

#[test]
fn unet_of_the_pocket_model() -> Result<()> {
    check(unet, &pocket()?, "pocket")
}

#[test]
fn autoencoder_of_the_tiny_model() -> Result<()> {
    check(autoencoder, &Tiny::folder()?.source()?, "tiny")
}

#[test]
fn autoencoder_of_the_pocket_model() -> Result<()> {
    check(autoencoder, &pocket()?, "pocket")
}

/// In bands of four rows, and of some that divide nothing evenly.
#[test]
fn autoencoders_in_bands() -> Result<()> {
    for (source, model) in [(Tiny::folder()?.source()?, "tiny"), (pocket()?, "pocket")] {
        check(|source, options, golden| divided_autoencoder(source, options, golden, 0), &source, model)?;
        check(|source, options, golden| divided_autoencoder(source, options, golden, 300_000), &source, model)?;
    }
    Ok(())
}

fn pocket() -> Result<ModelSource> {
    Ok(ModelSource::resolve(Some("pocket"), Default::default())?)
}

/// All outputs of a network in both precisions.
fn check(network: Network, source: &ModelSource, model: &str) -> Result<()> {
    let golden = Golden::open(model)?;
    for (name, found) in network(source, &EXACT, &golden)? {
        TINY.check(name, &found, &golden.tensor(name)?.0)?;
    }
    let errors = golden.bf16_errors()?;
    let mut pooled: BTreeMap<&str, [Vec<f32>; 2]> = BTreeMap::new();
    for (name, found) in network(source, &ComputeOptions { precision: Precision::Bf16, ..EXACT }, &golden)? {
        // All rows of the UNet have one error, as `make_models.py` explains.
        let [all, expected] = pooled.entry(name.trim_start_matches("odd_")).or_default();
        all.extend(found);
        expected.extend(golden.tensor(name)?.0);
    }
    for (name, [found, expected]) in pooled {
        let own = errors.get(name).with_context(|| format!("bf16.json of {model} has no {name}"))?;
        Bound::bf16(*own).check(name, &found, &expected)?;
    }
    Ok(())
}

fn text_encoder(source: &ModelSource, options: &ComputeOptions, golden: &Golden) -> Result<Outputs> {
    let mut model = stage::load_text_encoder(source, options)?;
    let ids = golden.token_ids()?;
    let (all, skipped) = (model.encode(&ids, 0)?.concat(), model.encode(&ids[..1], 1)?.concat());
    Ok(vec![("prompt_embeds", all), ("prompt_embeds_skip_1", skipped)])
}

/// Four rows with a timestep and a text each, in one batch; then sizes that halve to odd numbers.
fn unet(source: &ModelSource, options: &ComputeOptions, golden: &Golden) -> Result<Outputs> {
    let mut model = stage::load_unet(source, options)?;
    let tokens = golden.tensor("prompt_embeds")?.1[1];
    let texts: Vec<_> =
        golden.rows("prompt_embeds")?.iter().map(|embeds| model.context(embeds, tokens)).collect::<Result<_, _>>()?;
    let timesteps = golden.tensor("timesteps")?.0;

    let mut outputs = Outputs::new();
    for (latents, noise_pred, timesteps) in
        [("latents", "noise_pred", &timesteps[..]), ("odd_latents", "odd_noise_pred", &timesteps[1..3])]
    {
        let shape = golden.tensor(latents)?.1;
        let latents = golden.rows(latents)?;
        let rows: Vec<UnetRow<'_>> = latents
            .iter()
            .zip(timesteps)
            .zip(texts.iter().cycle())
            .map(|((latents, timestep), context)| UnetRow {
                latents,
                timestep: *timestep,
                context,
                guidance_scale: None,
            })
            .collect();
        outputs.push((noise_pred, model.predict(&rows, shape[2], shape[3])?.concat()));
    }
    Ok(outputs)
}

fn autoencoder(source: &ModelSource, options: &ComputeOptions, golden: &Golden) -> Result<Outputs> {
    decode_and_encode(stage::load_vae(source, options)?.as_mut(), golden)
}

/// Checked against the undivided one too: on a CPU to the last bit.
fn divided_autoencoder(
    source: &ModelSource,
    options: &ComputeOptions,
    golden: &Golden,
    band_bytes: usize,
) -> Result<Outputs> {
    let mut model = stage::load_vae(source, options)?;
    let undivided = decode_and_encode(model.as_mut(), golden)?;
    model.divide(Division { undivided_pixels: 0, band_bytes });
    let outputs = decode_and_encode(model.as_mut(), golden)?;
    ensure!(outputs == undivided, "bands of {band_bytes} bytes change bits");
    Ok(outputs)
}

fn decode_and_encode(model: &mut dyn VaeModel, golden: &Golden) -> Result<Outputs> {
    let (latents, shape) = golden.tensor("scaled_latents")?;
    let decoded = model.decode(&latents, shape[1], shape[2])?;
    let (image, shape) = golden.tensor("image")?;
    let posterior = model.encode(&image, shape[1], shape[2])?;
    Ok(vec![("decoded", decoded), ("posterior_mean", posterior.mean), ("posterior_std", posterior.std)])
}
