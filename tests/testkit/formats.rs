//! A model saved in the three layouts that people have: diffusers folder, single safetensors, CompVis `.ckpt`.
//!
//! Names and formats are written from the libraries' own code, apart from the readers that they test.

mod checkpoint;
mod compvis;
mod folder;
mod pickle;

use std::borrow::Cow;
use std::path::Path;

use anyhow::Context as _;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::View;

use crate::seeded::{Configs, Part, SeededTensor};

/// The type that tensors are saved in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to half precision, as `fp16` variants are.
    F16,
}

/// A model to be saved.
#[derive(Clone, Copy)]
pub struct Saving<'a> {
    /// Its configurations, which a folder holds and a single file implies.
    pub configs: &'a Configs,
    /// Its tensors.
    pub tensors: &'a [SeededTensor],
    /// The type to save them in.
    pub precision: Precision,
}

/// What surrounds the weights in a `.ckpt`.
#[derive(Clone, Copy, Default)]
pub struct CheckpointExtras<'a> {
    /// Tensors whose UNet is saved as the moving average; a "full" checkpoint has them.
    pub ema: Option<&'a [SeededTensor]>,
    /// Whether PyTorch Lightning's objects are saved along: callbacks, optimizer states, classes that exist nowhere.
    pub lightning: bool,
}

impl Saving<'_> {
    /// Saves a diffusers folder, with CLIP's vocabulary and without a `defaults.json`; half precision as `fp16` variants.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn folder(&self, to: &Path) -> anyhow::Result<()> {
        folder::write(self, to).with_context(|| format!("saving the folder {}", to.display()))
    }

    /// Saves one safetensors file with CompVis' names.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn single_safetensors(&self, to: &Path) -> anyhow::Result<()> {
        safetensors::serialize_to_file(self.compvis(self.tensors), None, to)
            .with_context(|| format!("saving {}", to.display()))
    }

    /// Saves a checkpoint as `torch.save` does, with CompVis' names under `state_dict`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn checkpoint(&self, to: &Path, extras: &CheckpointExtras<'_>) -> anyhow::Result<()> {
        let mut tensors = self.compvis(self.tensors);
        if let Some(ema) = extras.ema {
            let averages = ema.iter().filter(|tensor| tensor.part == Part::Unet);
            tensors.extend(averages.map(|tensor| {
                let (name, saved) = self.renamed(tensor);
                (compvis::average(&name), saved)
            }));
        }
        checkpoint::write(&tensors, extras.lightning, to).with_context(|| format!("saving {}", to.display()))
    }

    fn compvis<'t>(&self, tensors: &'t [SeededTensor]) -> Vec<(String, Saved<'t>)> {
        tensors.iter().map(|tensor| self.renamed(tensor)).collect()
    }

    fn renamed<'t>(&self, tensor: &'t SeededTensor) -> (String, Saved<'t>) {
        let mut saved = self.saved(tensor);
        let name = match tensor.part {
            Part::TextEncoder => compvis::text_encoder(&tensor.name),
            Part::Unet => compvis::unet(&tensor.name, &self.configs.unet),
            Part::Vae => {
                saved.shape = compvis::vae_shape(&tensor.name, &tensor.shape);
                compvis::vae(&tensor.name, &self.configs.vae)
            }
        };
        (name, saved)
    }

    fn saved<'t>(&self, tensor: &'t SeededTensor) -> Saved<'t> {
        Saved { precision: self.precision, shape: tensor.shape.clone(), data: &tensor.data }
    }
}

/// Saves tensors (names as in the file, shapes, elements) by themselves: as safetensors, or as a pickle of torch's.
///
/// # Errors
/// When the file cannot be written.
pub fn save_tensors(
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    precision: Precision,
    as_pickle: bool,
    to: &Path,
) -> anyhow::Result<()> {
    let saved =
        tensors.iter().map(|(name, shape, data)| (name.clone(), Saved { precision, shape: shape.clone(), data }));
    let saved: Vec<_> = saved.collect();
    let written = if as_pickle {
        checkpoint::write(&saved, false, to)
    } else {
        safetensors::serialize_to_file(saved, None, to).map_err(Into::into)
    };
    written.with_context(|| format!("saving {}", to.display()))
}

/// A tensor on its way to a file: converted when it is written.
struct Saved<'a> {
    precision: Precision,
    shape: Vec<usize>,
    data: &'a [f32],
}

impl Saved<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self.precision {
            Precision::F32 => self.data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Precision::F16 => self.data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

impl View for Saved<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.data.len() * if self.precision == Precision::F32 { 4 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use darkroom_models::source::{ModelSource, SourceOptions};

    use super::*;
    use crate::seeded::model;

    const PLAIN: SourceOptions = SourceOptions { ema: false };

    /// The revisions of the text encoder, the UNet and the autoencoder.
    fn revisions(path: &Path, options: SourceOptions) -> anyhow::Result<[String; 3]> {
        let source = ModelSource::resolve(path.to_str(), options)?;
        Ok([source.text_encoder()?.1.revision(), source.unet()?.1.revision(), source.vae()?.1.revision()])
    }

    #[test]
    fn three_layouts_hold_one_model() -> anyhow::Result<()> {
        let configs = Configs::tiny()?;
        let (tensors, ema) = (model(&configs, 1), model(&configs, 2));
        let to = tempfile::tempdir()?;
        for precision in [Precision::F32, Precision::F16] {
            let saving = Saving { configs: &configs, tensors: &tensors, precision };
            let of = |name: &str| to.path().join(format!("{name}-{precision:?}"));
            let (folder, single, lean, full) = (of("folder"), of("safetensors"), of("lean.ckpt"), of("full.ckpt"));
            saving.folder(&folder)?;
            saving.single_safetensors(&single)?;
            saving.checkpoint(&lean, &CheckpointExtras::default())?;
            saving.checkpoint(&full, &CheckpointExtras { ema: Some(&ema), lightning: true })?;
            let expected = revisions(&folder, PLAIN)?;
            for path in [&single, &lean, &full] {
                assert_eq!(revisions(path, PLAIN)?, expected, "{}", path.display());
                let source = ModelSource::resolve(path.to_str(), PLAIN)?;
                assert_eq!(source.unet_config()?.block_out_channels, configs.unet.block_out_channels);
                assert_eq!(source.tokenizer()?.encode("a photograph").ids[..4], [49_406, 320, 8853, 49_407]);
            }
        }
        Ok(())
    }

    #[test]
    fn the_moving_average_is_there_for_the_asking() -> anyhow::Result<()> {
        let configs = Configs::tiny()?;
        let (plain, ema) = (model(&configs, 1), model(&configs, 2));
        let to = tempfile::tempdir()?;
        let saving = |tensors| Saving { configs: &configs, tensors, precision: Precision::F32 };
        let (full, lean, averaged) = (to.path().join("full"), to.path().join("lean"), to.path().join("averaged"));
        saving(&plain).checkpoint(&full, &CheckpointExtras { ema: Some(&ema), lightning: true })?;
        saving(&plain).checkpoint(&lean, &CheckpointExtras::default())?;
        saving(&ema).checkpoint(&averaged, &CheckpointExtras::default())?;
        let asked = SourceOptions { ema: true };
        let (found, expected) = (revisions(&full, asked)?, revisions(&averaged, PLAIN)?);
        assert_eq!(found[1], expected[1], "the UNet is the average");
        assert_eq!(found[2], revisions(&full, PLAIN)?[2], "the autoencoder has none");
        let error = revisions(&lean, asked).unwrap_err().to_string();
        assert!(error.contains("holds no moving average of model.diffusion_model."), "{error}");
        Ok(())
    }
}
