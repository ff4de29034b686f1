//! The passes that make a picture's latents: one, or one and another at a larger size.

use darkroom_proto::v1::{DecodeRequest, DenoiseInit, EncodeRequest, Tensor};
use darkroom_resample::{Axis, Kernel, resample};
use tokio::task::spawn_blocking;
use tonic::Status;
use tracing::Instrument;

use super::image_task::ImageTask;
use super::init::row;
use crate::admission::Slot;
use crate::job::{Hires, Job};
use crate::picture::Rgb;
use crate::stages::Stage;
use crate::trace;

/// One run of the sampler.
pub(super) struct Pass {
    pub(super) index: u32,
    /// Width and height in pixels.
    pub(super) size: [u32; 2],
    pub(super) steps: u32,
    pub(super) init: Option<DenoiseInit>,
    /// Steps of the pass before it, and of the one behind it.
    before: u32,
    after: u32,
}

impl Pass {
    /// How far the whole picture is when the pass has `step` of its steps behind it, for its client.
    pub(super) fn told(&self, step: u32, of: u32) -> (u32, u32) {
        (self.before + step, self.before + of + self.after)
    }

    /// The same for the scheduler, in steps of the last pass: those of a smaller one before it are less work.
    pub(super) fn weighed(&self, job: &Job, step: u32, of: u32) -> (u32, u32) {
        match (self.before, self.after) {
            (0, 0) => (step, of),
            (0, after) => (job.scaled_to_last(step), job.scaled_to_last(of) + after),
            (before, _) => (job.scaled_to_last(before) + step, job.scaled_to_last(before) + of),
        }
    }
}

impl ImageTask {
    /// All passes of picture `index`, in `slot`, which it gives back.
    pub(super) async fn latents(&self, index: u32, mut slot: Slot) -> Result<(Tensor, Slot), Status> {
        let job = &self.job;
        let first = Pass {
            index,
            size: [job.width, job.height],
            steps: job.steps(),
            init: self.init.as_ref().map(|init| init.of_picture(index)),
            before: 0,
            after: job.hires_steps(),
        };
        let (latents, mut seconds) = self.denoise(&first, &mut slot).await?;
        let latents = match job.hires {
            None => latents,
            Some(hires) => {
                let second = Pass {
                    index,
                    size: job.final_size(),
                    steps: job.hires_steps(),
                    init: Some(self.enlarged(index, latents, hires).await?),
                    before: first.steps,
                    after: 0,
                };
                let (latents, more) = self.denoise(&second, &mut slot).await?;
                seconds += more;
                latents
            }
        };
        slot.measure(seconds);
        Ok((latents, slot))
    }

    /// What the second pass begins from: the picture so far, larger.
    async fn enlarged(&self, index: u32, latents: Tensor, hires: Hires) -> Result<DenoiseInit, Status> {
        let (job, size) = (&self.job, [hires.width, hires.height]);
        let small = self.decode_small(latents).instrument(trace::decode()).await?;
        let larger = spawn_blocking(move || {
            let axis = |from: u32, to: u32| Axis::whole(from as usize, to as usize);
            let (rows, columns) = (axis(small.height, size[1]), axis(small.width, size[0]));
            resample::<3>(Kernel::Lanczos, &small.data, &rows, &columns)
        });
        let larger = larger.await.map_err(|error| Status::internal(format!("a picture was not enlarged: {error}")))?;
        let request = EncodeRequest {
            image: Some(Tensor::from_u8(&[size[1] as usize, size[0] as usize, 3], larger)),
            seeds: vec![job.image_seed(index)],
            rng: job.rng.into(),
            ..EncodeRequest::default()
        };
        let encode = self.calls.encode(request, &self.model, self.deadline);
        let latents = encode.instrument(trace::encode_image()).await?;
        Ok(DenoiseInit { latents: Some(row(&latents, 0)), strength: hires.strength, ..DenoiseInit::default() })
    }

    /// The picture of the first pass, which stays inside the fleet.
    async fn decode_small(&self, latents: Tensor) -> Result<Rgb, Status> {
        let room = self.calls.room(Stage::Vae, self.deadline).await?;
        let request = DecodeRequest { latents: Some(latents), intermediate: true };
        let size = [self.job.width, self.job.height];
        Ok(self.calls.decode(request, size, &self.model, room, self.deadline).await?.picture)
    }
}
