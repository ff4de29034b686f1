//! What a request's pictures begin from, as the denoiser takes it: the VAE service encodes the picture once, with the noise of each seed.
//!
//! Draws of a seed's noise come in the order of diffusers' pipelines: the picture's posterior, the initial latents, the masked picture's
//! posterior, and then the sampler's own.

use std::sync::Arc;

use bytes::Bytes;
use darkroom_proto::v1::{DenoiseInit, EncodeRequest, Tensor};
use tonic::Status;

use super::{Generator, Request};
use crate::inputs::Pictures;
use crate::job::Init;
use crate::picture::Original;

/// See the module's text.
pub(super) struct EncodedInit {
    init: Init,
    /// f32 [num_images, latent_channels, height, width].
    latents: Option<Tensor>,
    /// The same shape; only for an inpainting UNet.
    masked_latents: Option<Tensor>,
    /// f32 [height, width] of latents.
    mask: Option<Tensor>,
    pictures: Arc<Pictures>,
}

impl Generator {
    /// Has the request's pictures encoded.
    ///
    /// # Errors
    /// The VAE service's status.
    pub(super) async fn init(&self, pictures: &Arc<Pictures>, request: &Request) -> Result<EncodedInit, Status> {
        let (job, model, deadline) = (&request.job, &request.model, request.deadline);
        let init = job.init.ok_or_else(|| Status::internal("a request has a picture and says nothing of it"))?;
        let sides = [job.height as usize, job.width as usize];
        let mask = pictures.mask.as_ref();
        let image = Tensor::from_u8(&[sides[0], sides[1], 3], pictures.init.data.clone());
        let encode = |mask: Option<&Bytes>, draws_before| {
            let request = EncodeRequest {
                image: Some(image.clone()),
                seeds: (0..job.num_images).map(|index| job.image_seed(index)).collect(),
                mask: mask.map(|mask| Tensor::from_u8(&sides, mask.clone())),
                draws_before,
                rng: job.rng.into(),
            };
            async { self.calls.encode(request, model, deadline).await.map(Some) }
        };
        // An inpainting UNet that starts from noise alone sees the picture only where it is not masked.
        let latents = match model.inpainting && init.strength == 1.0 {
            true => None,
            false => encode(None, 0).await?,
        };
        let masked_latents = match mask {
            Some(mask) if model.inpainting => encode(Some(mask), 1 + u32::from(latents.is_some())).await?,
            _ => None,
        };
        let mask = mask.map(|mask| latent_mask(mask, [job.width, job.height], model.factor));
        Ok(EncodedInit { init, latents, masked_latents, mask, pictures: Arc::clone(pictures) })
    }
}

impl EncodedInit {
    /// What picture `index` begins from.
    pub(super) fn of_picture(&self, index: u32) -> DenoiseInit {
        DenoiseInit {
            latents: self.latents.as_ref().map(|latents| row(latents, index)),
            strength: self.init.strength,
            way: self.init.way.into(),
            mask: self.mask.clone(),
            masked_latents: self.masked_latents.as_ref().map(|latents| row(latents, index)),
        }
    }

    /// What stays of the picture where it is not made anew.
    pub(super) fn original(&self) -> Option<Original> {
        let mask = self.pictures.mask.clone()?;
        Some(Original { rgb: self.pictures.init.clone(), mask })
    }
}

/// One of several tensors that stand one behind the other.
pub(super) fn row(stacked: &Tensor, index: u32) -> Tensor {
    let rows = stacked.shape.first().map_or(1, |rows| (*rows).max(1)) as usize;
    let bytes = stacked.data.len() / rows;
    let start = bytes * (index as usize).min(rows - 1);
    Tensor {
        dtype: stacked.dtype,
        shape: stacked.shape.get(1..).unwrap_or_default().to_vec(),
        data: stacked.data.slice(start..start + bytes),
    }
}

/// The mask at the size of latents: each takes its upper left pixel's, as diffusers' pipelines have it.
fn latent_mask(mask: &Bytes, [width, height]: [u32; 2], factor: u32) -> Tensor {
    let (width, factor) = (width as usize, factor as usize);
    let rows = mask.chunks_exact(width).step_by(factor);
    let values: Vec<f32> =
        rows.flat_map(|row| row.iter().step_by(factor)).map(|byte| f32::from(*byte) / 255.0).collect();
    Tensor::from_f32(&[height as usize / factor, width / factor], &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_gets_its_own_row() {
        let stacked = Tensor::from_f32(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(row(&stacked, 1), Tensor::from_f32(&[1, 1, 2], &[3.0, 4.0]));
        assert_eq!(row(&stacked, 0), Tensor::from_f32(&[1, 1, 2], &[1.0, 2.0]));
    }

    #[test]
    fn a_latent_takes_its_upper_left_pixel() {
        let mask: Vec<u8> =
            (0..16 * 24).map(|i| if i % 8 == 0 && i / 24 % 8 == 0 { (i % 24 * 10) as u8 } else { 1 }).collect();
        let expected = [0.0, 80.0, 160.0].map(|byte: f32| byte / 255.0).repeat(2);
        assert_eq!(latent_mask(&mask.into(), [24, 16], 8), Tensor::from_f32(&[2, 3], &expected));
    }
}
