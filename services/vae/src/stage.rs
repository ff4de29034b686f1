//! Where the model stops: the autoencoder on its thread, and what the edge needs to know of it.

use std::sync::Arc;

use darkroom_engine::{Loaded, ModelError, Observer, Worker, WorkerOptions};
use darkroom_models::stage::{self, Division, VaeModel};
use darkroom_proto::v1::{SafetyVerdict, StageInfo};
use darkroom_stage_kit::model;

use crate::config::Config;
use crate::finish::{Finished, Finishing, FinishingFacts};
use crate::picture::{self, Draws, Picture};

/// What is known of the model once it is loaded.
pub(crate) struct VaeFacts {
    pub(crate) info: StageInfo,
    pub(crate) latent_channels: usize,
    pub(crate) factor: usize,
    pub(crate) scaling_factor: f64,
    pub(crate) finishing: FinishingFacts,
}

impl VaeFacts {
    /// Says once what is done to finished pictures.
    pub(crate) fn log(&self) {
        let FinishingFacts { watermark, policy, safety_revision } = &self.finishing;
        tracing::info!(watermark, policy = policy.as_str_name(), safety_revision, "finished pictures");
    }
}

/// The model's thread as the edge calls it.
pub(crate) type VaeWorker = Worker<Autoencoder>;

/// The autoencoder, with pictures as bytes, and what is done to those that leave.
pub(crate) struct Autoencoder {
    model: Box<dyn VaeModel>,
    finishing: Finishing,
}

/// Starts the thread that loads, warms and owns the autoencoder.
pub(crate) fn start(config: &Config, observer: Arc<dyn Observer>) -> std::io::Result<(VaeWorker, Loaded<VaeFacts>)> {
    let queue_limit = config.queue_limit as usize;
    let config = config.clone();
    Worker::start(WorkerOptions { name: "vae".to_owned(), queue_limit, observer }, move || {
        let (source, compute) = model::open(&config.model)?;
        let mut model = stage::load_vae(&source, &compute)?;
        model.divide(Division { undivided_pixels: config.undivided_pixels as usize, ..Division::default() });
        model.warm()?;
        let finishing = Finishing::open(&config, &source, &compute)?;
        let info = model::stage_info(&source, model.as_ref(), queue_limit);
        let facts = VaeFacts {
            info: StageInfo { revision: finishing.facts().revision(model.identity()), ..info },
            latent_channels: model.latent_channels(),
            factor: model.factor(),
            scaling_factor: model.scaling_factor(),
            finishing: finishing.facts(),
        };
        Ok((Autoencoder { model, finishing }, facts))
    })
}

impl Autoencoder {
    /// Latents in the UNet's scale → `[height · factor, width · factor, 3]`; checked and signed unless it is an intermediate picture, which
    /// stays inside the fleet.
    pub(crate) fn decode(
        &mut self,
        latents: &[f32],
        height: usize,
        width: usize,
        intermediate: bool,
    ) -> Result<Finished, ModelError> {
        let rgb = picture::to_bytes(&self.model.decode(latents, height, width)?)?;
        let factor = self.model.factor();
        let picture = Picture { rgb, height: height * factor, width: width * factor };
        if intermediate {
            return Ok(Finished { picture, verdict: SafetyVerdict::NotChecked, signed: false });
        }
        self.finishing.finish(picture)
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
        let posterior = self.model.encode(&planes, height, width)?;
        Ok(picture::to_latents(&posterior, draws, self.model.scaling_factor()))
    }
}
