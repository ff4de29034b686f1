//! What a request will cost, while no worker is there that could say it: the autoscaling signal must see it all the same.
//!
//! The model that was served last stands for the one to come. Before any was, it is taken to be Stable Diffusion v1 as its reference
//! script runs it. Nothing was checked yet, so every number is brought into its range first.

use darkroom_proto::v1::GenerateRequest;

use crate::job::Priority;
use crate::model::{MIN_SIDE, Model};
use crate::scheduler::Work;
use crate::validate::{Limits, MAX_STEPS};

/// Stable Diffusion v1: pixels of a side, of a latent, steps.
const SIDE: u32 = 512;
const FACTOR: u32 = 8;
const STEPS: u32 = 50;

/// A request's work, as far as it can be told. `last` is the model that was served last.
pub(crate) fn estimate(request: &GenerateRequest, last: Option<&Model>, limits: Limits) -> Work {
    let [width, height] = last.map_or([SIDE; 2], |model| [model.defaults.width, model.defaults.height]);
    let factor = last.map_or(FACTOR, |model| model.factor);
    let side = |asked: Option<u32>, usual| asked.unwrap_or(usual).clamp(MIN_SIDE, limits.max_side.max(MIN_SIDE));
    let [width, height] = match request.hires {
        Some(hires) => [side(Some(hires.width), width), side(Some(hires.height), height)],
        None => [side(request.width, width), side(request.height, height)],
    };
    let steps = last.map_or(STEPS, |model| model.defaults.num_inference_steps);
    let steps = request.num_inference_steps.unwrap_or(steps).clamp(1, MAX_STEPS);
    let evaluations = last.map_or(steps, |model| {
        let sampler = if request.sampler.is_empty() { &model.defaults.sampler } else { &request.sampler };
        model.evaluations(sampler, steps)
    });
    let rows = if request.guidance_scale == Some(1.0) { 1 } else { 2 };
    Work {
        images: request.num_images.unwrap_or(1).clamp(1, limits.max_images),
        evaluations,
        pixels: rows * u64::from(width / factor) * u64::from(height / factor),
        priority: Priority::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Info;
    use crate::tests::fakes;

    const LIMITS: Limits = Limits { max_images: 16, max_side: 2048 };

    fn model() -> Model {
        let [text, vae] = [Info::TextEncoder(fakes::text_info()), Info::Vae(fakes::vae_info())];
        Model::join(&text, &Info::Denoiser(fakes::denoiser_info()), &vae).unwrap()
    }

    #[test]
    fn before_any_model_it_is_v1_as_asked_for() {
        let usual = estimate(&GenerateRequest::default(), None, LIMITS);
        assert_eq!((usual.images, usual.evaluations, usual.pixels), (1, 50, 2 * 64 * 64));
        let asked = GenerateRequest {
            width: Some(256),
            num_images: Some(3),
            num_inference_steps: Some(20),
            guidance_scale: Some(1.0),
            ..GenerateRequest::default()
        };
        let work = estimate(&asked, None, LIMITS);
        assert_eq!((work.images, work.evaluations, work.pixels), (3, 20, 32 * 64));
    }

    #[test]
    fn the_last_model_fills_in_what_is_left_out() {
        let model = model();
        let work = estimate(&GenerateRequest::default(), Some(&model), LIMITS);
        let defaults = &model.defaults;
        assert_eq!(work.pixels, model.default_pixels());
        assert_eq!(work.evaluations, model.evaluations(&defaults.sampler, defaults.num_inference_steps));
    }

    #[test]
    fn numbers_out_of_range_count_as_the_nearest_that_is_not() {
        let most = Some(u32::MAX);
        let wild = GenerateRequest {
            width: most,
            height: Some(0),
            num_images: most,
            num_inference_steps: most,
            sampler: "none".into(),
            ..GenerateRequest::default()
        };
        for last in [None, Some(&model())] {
            let work = estimate(&wild, last, LIMITS);
            assert_eq!((work.images, work.evaluations, work.pixels), (16, 1000, 2 * 256 * 8));
        }
    }
}
