//! A whole model that has been opened and found complete.

use super::{ConvertError, ConvertOptions};
use crate::config::{ClipConfig, UNetConfig, VaeConfig};
use crate::error::LoadError;
use crate::left_out::{self, LeftOut};
use crate::network::Network;
use crate::outline;
use crate::source::{Files, ModelSource, SafetySource};
use crate::weights::Part;

/// The parts of a model, each as its network asks for it.
pub(super) struct Model<'a> {
    pub(super) source: &'a ModelSource,
    pub(super) clip: ClipConfig,
    pub(super) unet: UNetConfig,
    pub(super) vae: VaeConfig,
    /// Text encoder, UNet, autoencoder, and the safety checker of a folder that has one.
    pub(super) networks: Vec<Network>,
    /// What is no network's.
    pub(super) left_out: Vec<LeftOut>,
}

impl<'a> Model<'a> {
    pub(super) fn open(source: &'a ModelSource, options: ConvertOptions) -> Result<Self, ConvertError> {
        if options.ema
            && let Some(files) = source.files()
        {
            let what = "a diffusers folder has one set of weights; averaged ones are taken from a full checkpoint";
            return Err(LoadError::unsupported(files.name(), what).into());
        }
        let ((clip, text), (unet, denoiser)) = (source.text_encoder()?, source.unet()?);
        let (vae, autoencoder) = source.vae()?;
        // Whether there is a vocabulary that fits.
        source.tokenizer()?;
        let mut networks = vec![
            Network::checked(Part::TextEncoder, text, outline::text_encoder(&clip)?)?,
            Network::checked(Part::Unet, denoiser, outline::unet(&unet)?)?,
            Network::checked(Part::Vae, autoencoder, outline::vae(&vae)?)?,
        ];
        if let Some(checker) = SafetySource::of(source)? {
            let (tower, _, weights) = checker.open()?;
            networks.push(Network::checked(Part::SafetyChecker, weights, outline::safety_checker(&tower)?)?);
        }
        let left_out = left_out::of(source, networks.iter())?;
        Ok(Self { source, clip, unet, vae, networks, left_out })
    }

    /// The source's folder, if it is one.
    pub(super) fn files(&self) -> Option<&'a Files> {
        self.source.files()
    }

    /// The networks that make pictures.
    pub(super) fn drawing(&self) -> impl Iterator<Item = &Network> {
        self.networks.iter().filter(|network| network.part != Part::SafetyChecker)
    }
}
