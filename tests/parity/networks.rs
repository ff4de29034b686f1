//! Text encoder, UNet and autoencoder against transformers and diffusers, on the same weights.

use anyhow::Result;
use darkroom_models::source::ModelSource;
use darkroom_models::stage::{self, UnetRow};

use crate::golden::{EXACT, Golden, TINY};
use crate::layouts::Tiny;

#[test]
fn text_encoder_of_the_tiny_model() -> Result<()> {
    text_encoder(&Tiny::folder()?.source()?, "tiny")
}

#[test]
fn text_encoder_of_the_pocket_model() -> Result<()> {
    text_encoder(&pocket()?, "pocket")
}

#[test]
fn unet_of_the_tiny_model() -> Result<()> {
    unet(&Tiny::folder()?.source()?, "tiny")
}

#[test]
fn unet_of_the_pocket_model() -> Result<()> {
    unet(&pocket()?, "pocket")
}

#[test]
fn autoencoder_of_the_tiny_model() -> Result<()> {
    autoencoder(&Tiny::folder()?.source()?, "tiny")
}

#[test]
fn autoencoder_of_the_pocket_model() -> Result<()> {
    autoencoder(&pocket()?, "pocket")
}

fn pocket() -> Result<ModelSource> {
    Ok(ModelSource::resolve(Some("pocket"), Default::default())?)
}

fn text_encoder(source: &ModelSource, name: &str) -> Result<()> {
    let golden = Golden::open(name)?;
    let mut model = stage::load_text_encoder(source, &EXACT)?;
    let ids = golden.token_ids()?;
    let all = model.encode(&ids, 0)?;
    TINY.check("prompt_embeds", &all.concat(), &golden.tensor("prompt_embeds")?.0)?;
    let skipped = model.encode(&ids[..1], 1)?;
    TINY.check("prompt_embeds, clip_skip 1", &skipped[0], &golden.tensor("prompt_embeds_skip_1")?.0)
}

/// Four rows with a timestep and a text each, in one batch; then sizes that halve to odd numbers.
fn unet(source: &ModelSource, name: &str) -> Result<()> {
    let golden = Golden::open(name)?;
    let mut model = stage::load_unet(source, &EXACT)?;
    let tokens = golden.tensor("prompt_embeds")?.1[1];
    let texts: Vec<_> =
        golden.rows("prompt_embeds")?.iter().map(|embeds| model.context(embeds, tokens)).collect::<Result<_, _>>()?;
    let timesteps = golden.tensor("timesteps")?.0;

    for (latents, noise_pred, timesteps) in
        [("latents", "noise_pred", &timesteps[..]), ("odd_latents", "odd_noise_pred", &timesteps[1..3])]
    {
        let shape = golden.tensor(latents)?.1;
        let latents = golden.rows(latents)?;
        let rows: Vec<UnetRow<'_>> = latents
            .iter()
            .zip(timesteps)
            .zip(texts.iter().cycle())
            .map(|((latents, timestep), context)| UnetRow { latents, timestep: *timestep, context })
            .collect();
        let found = model.predict(&rows, shape[2], shape[3])?;
        TINY.check(noise_pred, &found.concat(), &golden.tensor(noise_pred)?.0)?;
    }
    Ok(())
}

fn autoencoder(source: &ModelSource, name: &str) -> Result<()> {
    let golden = Golden::open(name)?;
    let mut model = stage::load_vae(source, &EXACT)?;
    let (latents, shape) = golden.tensor("scaled_latents")?;
    let decoded = model.decode(&latents, shape[1], shape[2])?;
    TINY.check("decoded", &decoded, &golden.tensor("decoded")?.0)?;
    let (image, shape) = golden.tensor("image")?;
    let posterior = model.encode(&image, shape[1], shape[2])?;
    TINY.check("posterior mean", &posterior.mean, &golden.tensor("posterior_mean")?.0)?;
    TINY.check("posterior std", &posterior.std, &golden.tensor("posterior_std")?.0)
}
