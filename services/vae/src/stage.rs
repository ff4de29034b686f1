//! Where the model stops: the autoencoder on its thread, and what the edge needs to know of it.

use std::sync::Arc;

use darkroom_engine::{Loaded, ModelError, Observer, Worker, WorkerOptions};
use darkroom_models::stage::{self, VaeModel};
use darkroom_proto::v1::StageInfo;
use darkroom_stage_kit::model;

use crate::config::Config;
use crate::picture::{self, Draws};

/// What is known of the model once it is loaded.
pub(crate) struct VaeFacts {
    pub(crate) info: StageInfo,
    pub(crate) latent_channels: usize,
    pub(crate) factor: usize,
    pub(crate) scaling_factor: f64,
}

/// The model's thread as the edge calls it.
pub(crate) type VaeWorker = Worker<Autoencoder>;

/// The autoencoder, with pictures as bytes.
pub(crate) struct Autoencoder(Box<dyn VaeModel>);

/// Starts the thread that loads, warms and owns the autoencoder.
pub(crate) fn start(config: &Config, observer: Arc<dyn Observer>) -> std::io::Result<(VaeWorker, Loaded<VaeFacts>)> {
    let queue_limit = config.queue_limit as usize;
    let args = config.model.clone();
    Worker::start(WorkerOptions { name: "vae".to_owned(), queue_limit, observer }, move || {
        let (source, compute) = model::open(&args)?;
        let mut model = stage::load_vae(&source, &compute)?;
        model.warm()?;
        let facts = VaeFacts {
            info: model::stage_info(&source, model.as_ref(), queue_limit),
            latent_channels: model.latent_channels(),
            factor: model.factor(),
            scaling_factor: model.scaling_factor(),
        };
        Ok((Autoencoder(model), facts))
    })
}

impl Autoencoder {
    /// Latents in the UNet's scale → `[height · factor, width · factor, 3]`.
    pub(crate) fn decode(&mut self, latents: &[f32], height: usize, width: usize) -> Result<Vec<u8>, ModelError> {
        picture::to_bytes(&self.0.decode(latents, height, width)?)
    }

    /// `[height, width, 3]` → latents in the UNet's scale, one for each draw. Where a `mask` is, the picture is grey.
    pub(crate) fn encode(
        &mut self,
        image: &[u8],
        mask: Option<&[u8]>,
        [height, width]: [usize; 2],
        draws: &Draws,
    ) -> Result<Vec<f32>, ModelError> {
        let mut planes = picture::to_planes(image);
        if let Some(mask) = mask {
            picture::grey_out(&mut planes, mask);
        }
        let posterior = self.0.encode(&planes, height, width)?;
        Ok(picture::to_latents(&posterior, draws, self.0.scaling_factor()))
    }
}
