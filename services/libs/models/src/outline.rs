//! The tensors that a network is made of, by name and shape, as the network itself asks for them.

use std::collections::BTreeMap;

use crate::clip::TextEncoder;
use crate::compute::{Nothing, Outline, Place, Scope};
use crate::config::{ClipConfig, UNetConfig, VaeConfig, VisionConfig};
use crate::error::LoadError;
use crate::safety::concepts::Concepts;
use crate::safety::tower::VisionTower;
use crate::unet::Unet;
use crate::vae::Vae;

/// Shapes by today's names.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// Of the text encoder.
pub(crate) fn text_encoder(config: &ClipConfig) -> Result<Shapes, LoadError> {
    outline(|scope| TextEncoder::load(scope, config, &[]).map(drop))
}

/// Of the UNet.
pub(crate) fn unet(config: &UNetConfig) -> Result<Shapes, LoadError> {
    outline(|scope| Unet::load(scope, config).map(drop))
}

/// Of the autoencoder.
pub(crate) fn vae(config: &VaeConfig) -> Result<Shapes, LoadError> {
    outline(|scope| Vae::load(scope, config).map(drop))
}

/// Of the safety checker.
pub(crate) fn safety_checker(config: &VisionConfig) -> Result<Shapes, LoadError> {
    outline(|scope| {
        VisionTower::load(scope, config)?;
        Concepts::load(scope, config.projection_dim).map(drop)
    })
}

/// The UNet's layers that adapters may change.
pub(crate) fn unet_places(config: &UNetConfig) -> Result<Vec<Place>, LoadError> {
    let outline = Outline::default();
    Ok(Unet::load(&Scope::outline(&Nothing, &outline), config)?.places().to_vec())
}

/// The text encoder's layers that adapters may change.
pub(crate) fn text_encoder_places(config: &ClipConfig) -> Result<Vec<Place>, LoadError> {
    let outline = Outline::default();
    Ok(TextEncoder::load(&Scope::outline(&Nothing, &outline), config, &[])?.places().to_vec())
}

fn outline(build: impl FnOnce(&Scope<'_, Nothing>) -> Result<(), LoadError>) -> Result<Shapes, LoadError> {
    let outline = Outline::default();
    build(&Scope::outline(&Nothing, &outline))?;
    Ok(outline.into_asked().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{ModelSource, SourceOptions};

    #[test]
    fn the_outlines_of_a_model_are_its_tensors() {
        let source = ModelSource::resolve(None, SourceOptions::default()).unwrap();
        let (clip, text) = source.text_encoder().unwrap();
        let (config, denoiser) = source.unet().unwrap();
        let (vae_config, autoencoder) = source.vae().unwrap();
        for (outline, weights) in [
            (text_encoder(&clip).unwrap(), text),
            (unet(&config).unwrap(), denoiser),
            (vae(&vae_config).unwrap(), autoencoder),
        ] {
            let stored: Shapes = weights.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
            assert_eq!(outline, stored, "{}", weights.file());
        }
    }
}
