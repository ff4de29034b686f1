//! The one model that the stages' workers run together, and whether their parts fit.

use darkroom_proto::v1::SamplerCost;

use crate::job::Lora;
use crate::selection::{Identity, Pins};
use crate::stages::{Info, Stage};

/// Smallest side of a picture in pixels.
pub(crate) const MIN_SIDE: u32 = 64;

/// What requests may ask of the model, from what its three stages say of themselves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    /// Who serves it: requests keep to these.
    pub(crate) pins: Pins,
    pub(crate) name: String,
    pub(crate) defaults: Defaults,
    pub(crate) samplers: Vec<String>,
    /// What their steps cost, for those of which it was told.
    pub(crate) sampler_costs: Vec<SamplerCost>,
    pub(crate) min_side: u32,
    /// The smallest of what the denoiser and the VAE can do.
    pub(crate) max_side: u32,
    /// Width and height are multiples of this.
    pub(crate) side_multiple: u32,
    pub(crate) max_clip_skip: u32,
    /// Positions of the text tower, both markers included.
    pub(crate) max_tokens: usize,
    /// Windows of as many of a weighted prompt.
    pub(crate) max_windows: usize,
    /// Words that stand for textual inversions.
    pub(crate) textual_inversions: Vec<String>,
    /// LoRAs that text encoder and denoiser have alike.
    pub(crate) loras: Vec<String>,
    /// Width of an embedding.
    pub(crate) hidden_size: usize,
    pub(crate) latent_channels: usize,
    /// Pixels a latent.
    pub(crate) factor: u32,
    /// Its UNet looks at a mask and a masked picture.
    pub(crate) inpainting: bool,
    /// Its UNet looks at the guidance scale; there is no unconditional half.
    pub(crate) embedded_guidance: bool,
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

impl Model {
    /// Puts the model together from one worker's info for each stage.
    ///
    /// # Errors
    /// [`Misfit`] when their shapes do not fit each other.
    pub(crate) fn join(text: &Info, denoiser: &Info, vae: &Info) -> Result<Self, Misfit> {
        let pins = Pins { text_encoder: Identity::of(text), denoiser: Identity::of(denoiser), vae: Identity::of(vae) };
        let (Info::TextEncoder(text), Info::Denoiser(denoiser), Info::Vae(vae)) = (text, denoiser, vae) else {
            return Err(misfit(Stage::Denoiser, "a worker answered for another stage than it was asked".to_owned()));
        };
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
        Ok(Self {
            pins,
            name: denoiser.stage.as_ref().map(|stage| stage.model.clone()).unwrap_or_default(),
            defaults: Defaults {
                width: said.width,
                height: said.height,
                guidance_scale: said.guidance_scale,
                num_inference_steps: said.num_inference_steps,
                sampler: said.sampler,
            },
            samplers: denoiser.samplers.clone(),
            sampler_costs: denoiser.sampler_costs.clone(),
            min_side: MIN_SIDE,
            max_side: vae.max_side.min(denoiser.max_latent_side.saturating_mul(vae.factor)),
            side_multiple: vae.factor.saturating_mul(denoiser.latent_multiple.max(1)),
            max_clip_skip: text.num_layers - 1,
            max_tokens: text.max_tokens as usize,
            // A text encoder that does not say reads plain prompts alone.
            max_windows: text.max_windows.max(1) as usize,
            textual_inversions: text.textual_inversions.clone(),
            // One that only one stage has, or each another, would change a half of the model.
            loras: denoiser
                .loras
                .iter()
                .filter(|lora| text.loras.contains(lora))
                .map(|lora| lora.name.clone())
                .collect(),
            hidden_size: text.hidden_size as usize,
            latent_channels: denoiser.latent_channels as usize,
            factor: vae.factor,
            inpainting: denoiser.inpainting,
            embedded_guidance: denoiser.embedded_guidance,
        })
    }

    /// Evaluations of the UNet that so many steps take.
    pub(crate) fn evaluations(&self, sampler: &str, num_inference_steps: u32) -> u32 {
        let (per_step, extra) =
            self.cost(sampler).map_or((1, 0), |cost| (cost.evaluations_per_step, cost.extra_evaluations));
        num_inference_steps.saturating_mul(per_step).saturating_add_signed(extra).max(1)
    }

    /// The most steps that a sampler takes.
    pub(crate) fn max_steps(&self, sampler: &str) -> u32 {
        // A denoiser that does not say takes as many as anybody may ask for.
        self.cost(sampler).map(|cost| cost.max_steps).filter(|most| *most > 0).unwrap_or(u32::MAX)
    }

    /// How a sampler's noise levels can be spaced otherwise.
    pub(crate) fn sigma_spacings(&self, sampler: &str) -> &[String] {
        self.cost(sampler).map_or(&[], |cost| &cost.sigma_spacings)
    }

    fn cost(&self, sampler: &str) -> Option<&SamplerCost> {
        self.sampler_costs.iter().find(|cost| cost.sampler == sampler)
    }

    /// Whether all of these can be used.
    pub(crate) fn has_loras(&self, loras: &[Lora]) -> bool {
        loras.iter().all(|lora| self.loras.contains(&lora.name))
    }

    /// Latent pixels of one guided picture of the default size.
    pub(crate) fn default_pixels(&self) -> u64 {
        let Defaults { width, height, .. } = self.defaults;
        2 * u64::from(width / self.factor) * u64::from(height / self.factor)
    }

    /// Whether what was checked against this model holds for `other` too: they differ in who computes, not in what is allowed. LoRAs are a
    /// request's own: see [`Model::has_loras`].
    pub(crate) fn allows_the_same_as(&self, other: &Self) -> bool {
        let of_self = |other: &Self| Self {
            pins: self.pins.clone(),
            textual_inversions: self.textual_inversions.clone(),
            loras: self.loras.clone(),
            ..other.clone()
        };
        // Nearly always it is the same one.
        std::ptr::eq(self, other) || *self == of_self(other)
    }
}

fn misfit(stage: Stage, message: String) -> Misfit {
    Misfit { stage, message }
}

#[cfg(test)]
mod tests {
    use darkroom_proto::v1::LoraFile;

    use super::*;
    use crate::tests::fakes;

    fn fitting() -> [Info; 3] {
        [Info::TextEncoder(fakes::text_info()), Info::Denoiser(fakes::denoiser_info()), Info::Vae(fakes::vae_info())]
    }

    fn join([text, denoiser, vae]: &[Info; 3]) -> Result<Model, String> {
        Model::join(text, denoiser, vae).map_err(|misfit| misfit.to_string())
    }

    #[test]
    fn three_parts_make_a_model() {
        let model = join(&fitting()).unwrap();
        assert_eq!(model.name, "fake");
        assert_eq!((model.min_side, model.max_side, model.side_multiple), (64, 512, 8));
    }

    #[test]
    fn parts_of_different_models_are_named() {
        let mut infos = fitting();
        let Info::TextEncoder(text) = &mut infos[0] else { panic!("order") };
        text.hidden_size = 768;
        let error = join(&infos).unwrap_err();
        assert!(error.starts_with("text_encoder: its embeddings are 768 wide"), "{error}");

        let mut infos = fitting();
        let Info::Vae(vae) = &mut infos[2] else { panic!("order") };
        vae.latent_channels = 16;
        assert!(join(&infos).unwrap_err().starts_with("vae: it takes latents of 16 channels"));
    }

    #[test]
    fn loras_are_those_that_both_stages_have_alike() {
        let file = |name: &str, digest: &str| LoraFile { name: name.into(), digest: digest.into() };
        let mut infos = fitting();
        let Info::TextEncoder(text) = &mut infos[0] else { panic!("order") };
        text.loras = vec![file("both", "1"), file("differs", "1"), file("text", "1")];
        let Info::Denoiser(denoiser) = &mut infos[1] else { panic!("order") };
        denoiser.loras = vec![file("both", "1"), file("denoiser", "1"), file("differs", "2")];
        let model = join(&infos).unwrap();
        assert_eq!(model.loras, ["both"]);
        let lora = |name: &str| Lora { name: name.into(), weight: 1.0 };
        assert!(model.has_loras(&[lora("both")]) && !model.has_loras(&[lora("both"), lora("text")]));
    }

    #[test]
    fn another_revision_allows_the_same_and_another_size_does_not() {
        let model = join(&fitting()).unwrap();
        let mut infos = fitting();
        let Info::Vae(vae) = &mut infos[2] else { panic!("order") };
        vae.stage.as_mut().unwrap().revision = "another".into();
        assert!(model.allows_the_same_as(&join(&infos).unwrap()));
        let Info::Vae(vae) = &mut infos[2] else { panic!("order") };
        vae.max_side = 256;
        assert!(!model.allows_the_same_as(&join(&infos).unwrap()));
    }
}
