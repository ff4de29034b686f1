//! Where a model comes from: the program itself, a diffusers folder, or a single file; all give the same parts.

mod files;
mod latent_rgb;
mod safety;

use std::path::{Path, PathBuf};

use darkroom_samplers::ScheduleConfig;

use crate::config::{self, ClipConfig, Defaults, UNetConfig, VaeConfig};
use crate::error::LoadError;
use crate::pocket;
use crate::tokenizer::Tokenizer;
use crate::weights::{Part, SingleFile, Weights, folder_weights};

pub(crate) use files::Files;
pub use latent_rgb::LatentRgb;
pub use safety::SafetySource;

/// How a model is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Whether to take the UNet's exponential moving average from a full single-file checkpoint, instead of the plain
    /// weights as the reference does. Folders hold one of the two already.
    pub ema: bool,
}

/// A model that has been found and is of the right kind; its weights are opened part by part.
pub struct ModelSource {
    name: String,
    options: SourceOptions,
    layout: Layout,
    schedule: ScheduleConfig,
}

enum Layout {
    Folder(Files),
    Single(SingleFile),
}

impl ModelSource {
    /// Finds a model: `None` or "pocket" is the embedded one, anything else the path of a diffusers folder, a
    /// `.safetensors` or a `.ckpt` file.
    ///
    /// # Errors
    /// [`LoadError::NotFound`], or what keeps the folder or file from being a Stable Diffusion v1 model.
    pub fn resolve(model: Option<&str>, options: SourceOptions) -> Result<Self, LoadError> {
        let Some(model) = model.filter(|model| *model != pocket::NAME) else {
            return Self::folder(pocket::NAME.into(), pocket::files(), options);
        };
        let path = Path::new(model);
        if path.is_dir() {
            return Self::folder(name_of(path), Files::Disk(PathBuf::from(path)), options);
        }
        if !path.exists() {
            return Err(LoadError::NotFound(path.into()));
        }
        Self::single(name_of(path), SingleFile::open(path)?, options)
    }

    pub(crate) fn single(name: String, file: SingleFile, options: SourceOptions) -> Result<Self, LoadError> {
        let schedule = config::reference_schedule();
        Self { name, options, layout: Layout::Single(file), schedule }.check_fit()
    }

    fn folder(name: String, files: Files, options: SourceOptions) -> Result<Self, LoadError> {
        let index = files.require("model_index.json")?;
        config::check_pipeline(index.file(), &index)?;
        let schedule = match files.open("scheduler/scheduler_config.json")? {
            Some(blob) => config::read_schedule(blob.file(), &blob)?,
            None => config::reference_schedule(),
        };
        if options.ema {
            tracing::warn!(
                model = name,
                "a diffusers folder has one set of weights; the option for averaged ones is ignored"
            );
        }
        Self { name, options, layout: Layout::Folder(files), schedule }.check_fit()
    }

    /// The name that requests use: the folder's, the file's without its ending, or "pocket".
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The noise schedule that the model was trained with.
    #[must_use]
    pub fn schedule(&self) -> ScheduleConfig {
        self.schedule.clone()
    }

    /// What requests take that say nothing else: the model's `defaults.json`, else the reference's.
    ///
    /// # Errors
    /// [`LoadError`] when a configuration is malformed or out of range.
    pub fn defaults(&self) -> Result<Defaults, LoadError> {
        let vae = self.vae_config()?;
        let size = (self.unet_config()?.sample_size * vae.factor()).clamp(64, 2048);
        match &self.layout {
            Layout::Folder(files) => match files.open("defaults.json")? {
                Some(blob) => Defaults::from_json(blob.file(), &blob, size, vae.factor()),
                None => Ok(Defaults::reference(size)),
            },
            Layout::Single(_) => Ok(Defaults::reference(size)),
        }
    }

    /// The map from latents to preview colours: the model's `latent_rgb.json`, else Stable Diffusion v1's.
    ///
    /// # Errors
    /// [`LoadError`] when a configuration is malformed or out of range.
    pub fn latent_rgb(&self) -> Result<LatentRgb, LoadError> {
        let channels = self.vae_config()?.latent_channels;
        if let Layout::Folder(files) = &self.layout
            && let Some(blob) = files.open("latent_rgb.json")?
        {
            return LatentRgb::from_json(blob.file(), &blob, channels);
        }
        Ok(LatentRgb::assumed(channels))
    }

    /// The UNet's configuration; of a single file, inferred from its tensors.
    ///
    /// # Errors
    /// [`LoadError`] when it is missing, malformed, out of range or of another family.
    pub fn unet_config(&self) -> Result<UNetConfig, LoadError> {
        self.config("unet/config.json", UNetConfig::from_json, || UNetConfig::infer(&self.weights(Part::Unet)?))
    }

    /// The autoencoder's configuration.
    ///
    /// # Errors
    /// As for [`Self::unet_config`].
    pub fn vae_config(&self) -> Result<VaeConfig, LoadError> {
        self.config("vae/config.json", VaeConfig::from_json, || VaeConfig::infer(&self.weights(Part::Vae)?))
    }

    /// The text encoder's configuration.
    ///
    /// # Errors
    /// As for [`Self::unet_config`].
    pub fn text_encoder_config(&self) -> Result<ClipConfig, LoadError> {
        let infer = || ClipConfig::infer(&self.weights(Part::TextEncoder)?);
        self.config("text_encoder/config.json", ClipConfig::from_json, infer)
    }

    /// The UNet's configuration and weights.
    ///
    /// # Errors
    /// [`LoadError`] when either is missing, malformed or of another family.
    pub fn unet(&self) -> Result<(UNetConfig, Weights), LoadError> {
        let config = self.unet_config()?;
        let weights = self.weights(Part::Unet)?.with_config(&config)?;
        Ok((config, weights))
    }

    /// The autoencoder's configuration and weights.
    ///
    /// # Errors
    /// As for [`Self::unet`].
    pub fn vae(&self) -> Result<(VaeConfig, Weights), LoadError> {
        let config = self.vae_config()?;
        let weights = self.weights(Part::Vae)?.with_config(&config)?;
        Ok((config, weights))
    }

    /// The text encoder's configuration and weights.
    ///
    /// # Errors
    /// As for [`Self::unet`].
    pub fn text_encoder(&self) -> Result<(ClipConfig, Weights), LoadError> {
        let config = self.text_encoder_config()?;
        let weights = self.weights(Part::TextEncoder)?.with_config(&config)?;
        Ok((config, weights))
    }

    /// The text encoder's vocabulary: the folder's own, or CLIP's for a single file.
    ///
    /// # Errors
    /// [`LoadError`] when it is malformed or has tokens that the text encoder has no embedding for.
    pub fn tokenizer(&self) -> Result<Tokenizer, LoadError> {
        let config = self.text_encoder_config()?;
        match &self.layout {
            Layout::Folder(files) => Tokenizer::from_folder(files, &config),
            Layout::Single(single) => Tokenizer::clip(single.file(), &config),
        }
    }

    /// The files of a folder.
    pub(crate) fn files(&self) -> Option<&Files> {
        match &self.layout {
            Layout::Folder(files) => Some(files),
            Layout::Single(_) => None,
        }
    }

    /// The file, where the model is one.
    pub(crate) fn single_file(&self) -> Option<&SingleFile> {
        match &self.layout {
            Layout::Folder(_) => None,
            Layout::Single(single) => Some(single),
        }
    }

    fn config<C>(
        &self,
        path: &str,
        read: impl FnOnce(&str, &[u8]) -> Result<C, LoadError>,
        infer: impl FnOnce() -> Result<C, LoadError>,
    ) -> Result<C, LoadError> {
        match &self.layout {
            Layout::Folder(files) => files.require(path).and_then(|blob| read(blob.file(), &blob)),
            Layout::Single(_) => infer(),
        }
    }

    fn weights(&self, part: Part) -> Result<Weights, LoadError> {
        match &self.layout {
            Layout::Folder(files) => folder_weights(files, folder_of(part), part),
            Layout::Single(single) => single.part(part, self.options.ema),
        }
    }

    /// Checks that the parts belong together. A part that is not there is none of this check's business: a service may
    /// hold its own part of a folder alone.
    fn check_fit(self) -> Result<Self, LoadError> {
        let unet = present(self.unet_config())?;
        let (vae, text) = (present(self.vae_config())?, present(self.text_encoder_config())?);
        let Some(unet) = unet else { return Ok(self) };
        if let Some(vae) = vae.filter(|vae| vae.latent_channels != unet.out_channels) {
            let expected = format!("{}, the latent_channels of its autoencoder", vae.latent_channels);
            return Err(LoadError::config(&self.part_file("unet"), "out_channels", unet.out_channels, expected));
        }
        if let Some(text) = text.filter(|text| text.hidden_size != unet.cross_attention_dim) {
            let expected = format!("{}, the hidden_size of its text encoder", text.hidden_size);
            let (file, found) = (self.part_file("unet"), unet.cross_attention_dim);
            return Err(LoadError::config(&file, "cross_attention_dim", found, expected));
        }
        Ok(self)
    }

    /// The file that configures a part, for messages.
    fn part_file(&self, part: &str) -> String {
        match &self.layout {
            Layout::Folder(files) => format!("{}/{part}/config.json", files.name()),
            Layout::Single(single) => single.file().to_owned(),
        }
    }
}

/// A part, or `None` for one that is not there: a service may hold its own part of a folder alone.
pub(crate) fn present<T>(part: Result<T, LoadError>) -> Result<Option<T>, LoadError> {
    match part {
        Ok(part) => Ok(Some(part)),
        Err(LoadError::Incomplete { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a model folder holds a part.
pub(crate) fn folder_of(part: Part) -> &'static str {
    match part {
        Part::TextEncoder => "text_encoder/",
        Part::Unet => "unet/",
        Part::Vae => "vae/",
        Part::SafetyChecker => "safety_checker/",
    }
}

/// The last part of a path, without the ending of a file that has one.
fn name_of(path: &Path) -> String {
    // "." and ".." have a name only once they are resolved.
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}
