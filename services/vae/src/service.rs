//! The gRPC edge: messages in, messages out, nothing of them beyond.

use std::sync::Arc;

use darkroom_proto::tensor::TensorView;
use darkroom_proto::v1::{self, vae_server};
use darkroom_service_kit::deadline;
use darkroom_service_kit::status::invalid_argument;
use darkroom_stage_kit::facts::Facts;
use darkroom_stage_kit::noise;
use darkroom_stage_kit::refusal::{self, within};
use tonic::{Request, Response, Status};

use crate::STAGE;
use crate::finish::Finished;
use crate::metrics::VaeMetrics;
use crate::picture::{COLOURS, Draws};
use crate::stage::{VaeFacts, VaeWorker};

/// Of one picture in one call: a request has no more pictures.
const MOST_DRAWS: usize = 16;
/// The posterior's of the picture itself, and the initial noise.
const MOST_DRAWS_BEFORE: u32 = 2;

pub(crate) struct VaeService {
    worker: VaeWorker,
    facts: Facts<VaeFacts>,
    metrics: Arc<VaeMetrics>,
    max_side: u32,
}

impl VaeService {
    pub(crate) fn new(worker: VaeWorker, facts: Facts<VaeFacts>, metrics: Arc<VaeMetrics>, max_side: u32) -> Self {
        Self { worker, facts, metrics, max_side }
    }

    /// f32 `[latent_channels, height, width]` of a picture within the limits; height and width of the latents.
    fn latents<'a>(
        &self,
        facts: &VaeFacts,
        tensor: Option<&'a v1::Tensor>,
    ) -> Result<(TensorView<'a>, usize, usize), Status> {
        const FIELD: &str = "latents";
        let view = TensorView::required(tensor, FIELD).and_then(|view| view.expect_dtype(v1::Dtype::F32));
        let view = view.map_err(|error| refusal::tensor(&error))?;
        let most = (self.max_side as usize / facts.factor).max(1);
        match *view.shape() {
            [channels, height, width] if channels == facts.latent_channels && height.max(width) <= most => {
                Ok((view, height, width))
            }
            ref found => {
                let channels = facts.latent_channels;
                let message = format!("the shape {found:?} is not [{channels}, 1 to {most}, 1 to {most}]");
                Err(invalid_argument(FIELD, message))
            }
        }
    }

    /// u8 `[height, width, 3]` within the limits; its height and width.
    fn image<'a>(&self, facts: &VaeFacts, tensor: Option<&'a v1::Tensor>) -> Result<(&'a [u8], usize, usize), Status> {
        const FIELD: &str = "image";
        let view = TensorView::required(tensor, FIELD).map_err(|error| refusal::tensor(&error))?;
        let bytes = view.as_u8().map_err(|error| refusal::tensor(&error))?;
        let (factor, most) = (facts.factor, self.max_side as usize);
        match *view.shape() {
            [height, width, COLOURS]
                if height.max(width) <= most && height.is_multiple_of(factor) && width.is_multiple_of(factor) =>
            {
                Ok((bytes, height, width))
            }
            ref found => {
                let side = format!("{factor} to {most} in multiples of {factor}");
                Err(invalid_argument(FIELD, format!("the shape {found:?} is not [{side}, {side}, {COLOURS}]")))
            }
        }
    }
}

#[tonic::async_trait]
impl vae_server::Vae for VaeService {
    async fn decode(&self, call: Request<v1::DecodeRequest>) -> Result<Response<v1::DecodeResponse>, Status> {
        let deadline = deadline::of(&call);
        let message = call.into_inner();
        let facts = self.facts.get()?;
        self.metrics.calls.stage.received(message.latents.as_ref());
        let (view, height, width) = self.latents(facts, message.latents.as_ref())?;
        let latents = view.to_f32().map_err(|error| refusal::tensor(&error))?;
        let intermediate = message.intermediate;
        let decode = self.worker.call(deadline, move |model| model.decode(&latents, height, width, intermediate));
        let finished = decode.await.map_err(|error| refusal::call(STAGE, &error))?;
        self.metrics.finished(&finished);
        let Finished { picture, verdict, .. } = finished;
        let image = v1::Tensor::from_u8(&[picture.height, picture.width, COLOURS], picture.rgb);
        let image = Some(self.metrics.calls.stage.sent(image));
        Ok(Response::new(v1::DecodeResponse { image, safety: verdict.into() }))
    }

    async fn encode(&self, call: Request<v1::EncodeRequest>) -> Result<Response<v1::EncodeResponse>, Status> {
        let deadline = deadline::of(&call);
        let message = call.into_inner();
        let facts = self.facts.get()?;
        self.metrics.calls.stage.received(message.image.as_ref());
        let (bytes, height, width) = self.image(facts, message.image.as_ref())?;
        let mask = mask(message.mask.as_ref(), [height, width])?;
        let draws = draws(message.seeds, message.draws_before, message.rng)?;
        let drawn = draws.seeds.len().max(1);
        let bytes = bytes.to_vec();
        let encode =
            self.worker.call(deadline, move |model| model.encode(&bytes, mask.as_deref(), [height, width], &draws));
        let values = encode.await.map_err(|error| refusal::call(STAGE, &error))?;
        self.metrics.encoded.increment(1);
        let shape = [drawn, facts.latent_channels, height / facts.factor, width / facts.factor];
        let latents = self.metrics.calls.stage.sent(v1::Tensor::from_f32(&shape, &values));
        Ok(Response::new(v1::EncodeResponse { latents: Some(latents) }))
    }

    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::VaeInfo>, Status> {
        let facts = self.facts.get()?;
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Response::new(v1::VaeInfo {
            stage: Some(facts.info.clone()),
            latent_channels: count(facts.latent_channels),
            factor: count(facts.factor),
            scaling_factor: facts.scaling_factor,
            max_side: self.max_side,
            watermark: facts.finishing.watermark,
            safety_policy: facts.finishing.policy.into(),
            safety_revision: facts.finishing.safety_revision.clone(),
        }))
    }
}

/// u8 `[height, width]`, if there is one.
fn mask(tensor: Option<&v1::Tensor>, size: [usize; 2]) -> Result<Option<Vec<u8>>, Status> {
    let Some(tensor) = tensor else { return Ok(None) };
    let bytes = TensorView::new(tensor, "mask").and_then(|view| view.expect_shape(&size)?.as_u8());
    bytes.map(|bytes| Some(bytes.to_vec())).map_err(|error| refusal::tensor(&error))
}

fn draws(seeds: Vec<u64>, before: u32, rng: i32) -> Result<Draws, Status> {
    if seeds.len() > MOST_DRAWS {
        return Err(invalid_argument("seeds", format!("{} were sent, at most {MOST_DRAWS} are allowed", seeds.len())));
    }
    let before = within("draws_before", before, 0..=MOST_DRAWS_BEFORE)?;
    Ok(Draws { seeds, rng: noise::rng("rng", rng)?, before })
}
