//! The one model that the stages' workers run together, and whether their parts fit.

use darkroom_proto::v1::{DenoiserInfo, StageInfo, TextEncoderInfo, VaeInfo};

use crate::stages::{Info, Stage};

/// Smallest side of a picture in pixels.
const MIN_SIDE: u32 = 64;

/// What requests may ask of the model, from what its three stages say of themselves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) defaults: Defaults,
    pub(crate) samplers: Vec<String>,
    pub(crate) min_side: u32,
    /// The smallest of what the denoiser and the VAE can do.
    pub(crate) max_side: u32,
    /// Width and height are multiples of this.
    pub(crate) side_multiple: u32,
    pub(crate) max_clip_skip: u32,
    /// Positions of the text tower, both markers included.
    pub(crate) max_tokens: usize,
    /// Width of an embedding.
    pub(crate) hidden_size: usize,
    pub(crate) latent_channels: usize,
    /// Pixels a latent.
    pub(crate) factor: u32,
    /// Names the text encoder's weights and arithmetic: embeddings of another one are different embeddings.
    pub(crate) text_revision: String,
}

/// What a request uses for a field that it leaves out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) guidance_scale: f64,
    pub(crate) num_inference_steps: u32,
    pub(crate) sampler: String,
}

/// Parts that do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {message}", stage = .stage.name())]
pub(crate) struct Misfit {
    pub(crate) stage: Stage,
    pub(crate) message: String,
}

/// A ready worker's address with what it says of itself.
pub(crate) type Member<'a> = (&'a str, &'a Info);

impl Model {
    /// Puts the model together from the ready workers of all stages.
    ///
    /// `Ok(None)` when a stage has no member.
    pub(crate) fn of(members: &[Member<'_>]) -> Result<Option<Self>, Misfit> {
        for stage in Stage::ALL {
            same_revision(stage, members)?;
        }
        let (mut text, mut denoiser, mut vae) = (None, None, None);
        for (_, info) in members {
            match info {
                Info::TextEncoder(info) => text = Some(info),
                Info::Denoiser(info) => denoiser = Some(info),
                Info::Vae(info) => vae = Some(info),
            }
        }
        match (text, denoiser, vae) {
            (Some(text), Some(denoiser), Some(vae)) => Self::join(text, denoiser, vae).map(Some),
            _ => Ok(None),
        }
    }

    fn join(text: &TextEncoderInfo, denoiser: &DenoiserInfo, vae: &VaeInfo) -> Result<Self, Misfit> {
        if text.hidden_size != denoiser.cross_attention_dim {
            return Err(misfit(
                Stage::TextEncoder,
                format!(
                    "its embeddings are {} wide, the denoiser's cross attention takes {}; load both from one model",
                    text.hidden_size, denoiser.cross_attention_dim
                ),
            ));
        }
        if vae.latent_channels != denoiser.latent_channels {
            return Err(misfit(
                Stage::Vae,
                format!(
                    "it takes latents of {} channels, the denoiser makes {}; load both from one model",
                    vae.latent_channels, denoiser.latent_channels
                ),
            ));
        }
        let said = denoiser.defaults.clone().unwrap_or_default();
        if vae.factor == 0 || denoiser.samplers.is_empty() || text.num_layers == 0 || text.max_tokens < 3 {
            let message = "a stage left out its sizes; run services of one version".to_owned();
            return Err(misfit(Stage::Denoiser, message));
        }
        let (revision, precision) = identity(text.stage.as_ref());
        Ok(Self {
            name: denoiser.stage.as_ref().map(|stage| stage.model.clone()).unwrap_or_default(),
            defaults: Defaults {
                width: said.width,
                height: said.height,
                guidance_scale: said.guidance_scale,
                num_inference_steps: said.num_inference_steps,
                sampler: said.sampler,
            },
            samplers: denoiser.samplers.clone(),
            min_side: MIN_SIDE,
            max_side: vae.max_side.min(denoiser.max_latent_side.saturating_mul(vae.factor)),
            side_multiple: vae.factor.saturating_mul(denoiser.latent_multiple.max(1)),
            max_clip_skip: text.num_layers - 1,
            max_tokens: text.max_tokens as usize,
            hidden_size: text.hidden_size as usize,
            latent_channels: denoiser.latent_channels as usize,
            factor: vae.factor,
            text_revision: format!("{revision}/{precision}"),
        })
    }
}

/// Replicas must be interchangeable: the same weights in the same arithmetic.
fn same_revision(stage: Stage, members: &[Member<'_>]) -> Result<(), Misfit> {
    let mut replicas = members.iter().filter(|(_, info)| info.stage() == stage);
    let Some((first, info)) = replicas.next() else {
        return Ok(());
    };
    let expected = identity(info.common());
    for (other, info) in replicas {
        let found = identity(info.common());
        if found != expected {
            let (a, b) = (describe(expected), describe(found));
            let message = format!("{first} runs {a}, but {other} runs {b}; replicas must run the same");
            return Err(misfit(stage, message));
        }
    }
    Ok(())
}

fn identity(info: Option<&StageInfo>) -> (&str, &str) {
    info.map(|info| (info.revision.as_str(), info.precision.as_str())).unwrap_or_default()
}

fn describe((revision, precision): (&str, &str)) -> String {
    format!("revision {} in {precision}", revision.get(..12).unwrap_or(revision))
}

fn misfit(stage: Stage, message: String) -> Misfit {
    Misfit { stage, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fakes;

    fn fitting() -> [Info; 3] {
        [Info::TextEncoder(fakes::text_info()), Info::Denoiser(fakes::denoiser_info()), Info::Vae(fakes::vae_info())]
    }

    fn of(infos: &[Info]) -> Result<Option<Model>, String> {
        let addresses = ["a:1", "b:2", "c:3", "d:4"];
        let members: Vec<Member<'_>> = addresses.into_iter().zip(infos).collect();
        Model::of(&members).map_err(|misfit| misfit.to_string())
    }

    #[test]
    fn three_parts_make_a_model() {
        let model = of(&fitting()).unwrap().unwrap();
        assert_eq!(model.name, "fake");
        assert_eq!((model.min_side, model.max_side, model.side_multiple), (64, 512, 8));
        assert_eq!(of(&fitting()[..2]).unwrap(), None);
    }

    #[test]
    fn parts_of_different_models_are_named() {
        let mut infos = fitting();
        let Info::TextEncoder(text) = &mut infos[0] else { panic!("order") };
        text.hidden_size = 768;
        let error = of(&infos).unwrap_err();
        assert!(error.starts_with("text_encoder: its embeddings are 768 wide"), "{error}");

        let mut infos = fitting();
        let Info::Vae(vae) = &mut infos[2] else { panic!("order") };
        vae.latent_channels = 16;
        assert!(of(&infos).unwrap_err().starts_with("vae: it takes latents of 16 channels"));
    }

    #[test]
    fn replicas_must_run_the_same() {
        let mut other = fakes::denoiser_info();
        other.stage.as_mut().unwrap().revision = "another".into();
        let infos: Vec<Info> = fitting().into_iter().chain([Info::Denoiser(other)]).collect();
        let error = of(&infos).unwrap_err();
        assert!(error.contains("b:2") && error.contains("d:4") && error.contains("another"), "{error}");
    }
}
