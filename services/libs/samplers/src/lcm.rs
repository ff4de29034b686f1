//! LCM: from every timestep straight to the picture, and noised again to the next one, for models that were distilled to do so.
//!
//! Luo et al., "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference" (2023), algorithm 3, as diffusers'
//! `LCMScheduler` with its defaults: timesteps are picked from the 50 that the model was distilled on.

use crate::ddim::pred_original;
use crate::level::Level;
use crate::plan::{Evaluation, LATENTS, Plan, Source, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

/// Steps of the solver that the model was distilled from: there are no more to pick from.
pub(crate) const MOST_STEPS: usize = 50;
/// diffusers' `timestep_scaling`, and `sigma_data`.
const TIMESTEP_SCALING: f64 = 10.0;
const SIGMA_DATA: f64 = 0.5;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let timesteps = timesteps(schedule.num_train_timesteps(), steps.n).split_off(steps.skipped);
    let initial = steps.initial_at(schedule.level(timesteps[0]));
    let evaluations = timesteps.iter().enumerate().map(|(i, &timestep)| {
        let (latents, output) = pred_original(schedule.alpha_cumprod(timestep));
        // The closer to the picture, the more of it is already there: the boundary conditions, equation 9.
        let scaled = timestep as f64 * TIMESTEP_SCALING;
        let skip = SIGMA_DATA * SIGMA_DATA / (scaled * scaled + SIGMA_DATA * SIGMA_DATA);
        let out = scaled / scaled.hypot(SIGMA_DATA);
        let next = match timesteps.get(i + 1) {
            Some(&next) => schedule.level(next),
            None => Level { alpha: 1.0, sigma: 0.0 },
        };
        let terms = [
            (Source::State(LATENTS), next.alpha * (out * latents + skip)),
            (Source::ModelOutput, next.alpha * out * output),
        ];
        Evaluation {
            timestep: timestep as f32,
            step: i + 1,
            input: LATENTS,
            input_scale: 1.0,
            updates: vec![Update::new(LATENTS, terms).with_noise(i, next.sigma)],
            pred_original: (latents, output),
        }
    });
    Plan::new(Sampler::Lcm, steps.taken(), initial, evaluations.collect())
}

/// `n` of the distilled timesteps, the noisiest first.
fn timesteps(num_train_timesteps: usize, n: usize) -> Vec<i64> {
    let distilled = MOST_STEPS.min(num_train_timesteps);
    let stride = num_train_timesteps / distilled;
    (0..n).map(|i| ((distilled - i * distilled / n) * stride) as i64 - 1).collect()
}
