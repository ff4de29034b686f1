//! A whole model that has been opened and found complete.

use super::left_out::{self, LeftOut};
use super::{ConvertError, ConvertOptions};
use crate::config::{ClipConfig, UNetConfig, VaeConfig};
use crate::error::LoadError;
use crate::outline::{self, Shapes};
use crate::source::{Files, ModelSource, SafetySource};
use crate::weights::{Part, Stored, Weights};

/// The most names a message lists.
const NAMES_SHOWN: usize = 5;

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

/// One network's weights: nothing is missing, and every shape is right.
pub(super) struct Network {
    pub(super) part: Part,
    pub(super) weights: Weights,
    outline: Shapes,
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
        let left_out = left_out::of(source, &networks)?;
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

impl Network {
    fn checked(part: Part, weights: Weights, outline: Shapes) -> Result<Self, LoadError> {
        let file = weights.file();
        let missing: Vec<&str> = outline.keys().map(String::as_str).filter(|name| !weights.contains(name)).collect();
        if !missing.is_empty() {
            let first = missing[..missing.len().min(NAMES_SHOWN)].join(", ");
            let (count, more) = (missing.len(), if missing.len() > NAMES_SHOWN { ", …" } else { "" });
            let what = format!("lacks {count} of the {} tensors of its {part}: {first}{more}", outline.len());
            return Err(LoadError::incomplete(file, what));
        }
        for (name, stored) in weights.stored() {
            let Some(expected) = outline.get(name) else { continue };
            let file = stored.file().to_owned();
            if stored.shape() != expected {
                let (expected, found) = (expected.clone(), stored.shape().to_vec());
                return Err(LoadError::WrongShape { tensor: name.into(), file, expected, found });
            }
            if !stored.dtype().is_float() {
                let what = format!("tensor {name} has elements of type {}", stored.dtype());
                return Err(LoadError::unsupported(&file, what));
            }
        }
        Ok(Self { part, weights, outline })
    }

    /// The tensors of the network, by today's names.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.weights.stored().filter(|(name, _)| self.outline.contains_key(*name))
    }

    /// The names of those that the network does not have.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.weights.stored().map(|(name, _)| name).filter(|name| !self.outline.contains_key(*name))
    }
}
