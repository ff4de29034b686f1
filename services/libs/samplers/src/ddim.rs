//! DDIM: straight to the next timestep along the predicted noise, with a share eta of the posterior's own.
//!
//! Song et al., "Denoising Diffusion Implicit Models" (2021), equations 12 and 16, as diffusers' `DDIMScheduler` and, where
//! both visit the same timesteps, CompVis' `DDIMSampler`.

use crate::config::TimestepSpacing;
use crate::plan::{Evaluation, LATENTS, Plan, Source, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::start::{Start, StrengthWay};

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps, eta: f64) -> Plan {
    let timesteps = schedule.spacing(TimestepSpacing::Leading).whole(steps.n).split_off(steps.skipped);
    let stride = (schedule.num_train_timesteps() / steps.n) as i64;
    let noised = match steps.start {
        // Its noise is that of the timestep before, or as far from it where there is none.
        Start::Strength { way: StrengthWay::CompVis, .. } => timesteps[0] + stride,
        Start::Strength { way: StrengthWay::Diffusers, .. } | Start::Noise => timesteps[0],
    };
    let initial = steps.initial_at(schedule.level(noised));
    let evaluations = timesteps.iter().enumerate().map(|(i, &timestep)| {
        // diffusers steps by the whole stride under every spacing, even where the next timestep lies elsewhere.
        let (latents, output, noise) = transfer_with_noise(schedule, timestep, timestep - stride, eta);
        let update = Update::new(LATENTS, [(Source::State(LATENTS), latents), (Source::ModelOutput, output)]);
        Evaluation {
            timestep: timestep as f32,
            step: i + 1,
            input: LATENTS,
            input_scale: 1.0,
            updates: vec![update.with_noise(i, noise)],
            pred_original: pred_original(schedule.alpha_cumprod(timestep)),
        }
    });
    Plan::new(Sampler::Ddim, steps.taken(), initial, evaluations.collect())
}

/// x₀ = (x − √(1 − ᾱ) · ε) / √ᾱ, as the coefficients of x and ε.
pub(crate) fn pred_original(alpha_cumprod: f64) -> (f64, f64) {
    (1.0 / alpha_cumprod.sqrt(), -(1.0 - alpha_cumprod).sqrt() / alpha_cumprod.sqrt())
}

/// The deterministic step from one timestep to another, as the coefficients of x and ε. It is also PLMS' (equation 11 of
/// Liu et al. is the same map, written otherwise).
pub(crate) fn transfer(schedule: &NoiseSchedule, timestep: i64, prev_timestep: i64) -> (f64, f64) {
    let (latents, output, _) = transfer_with_noise(schedule, timestep, prev_timestep, 0.0);
    (latents, output)
}

/// The coefficients of x, ε and fresh noise.
fn transfer_with_noise(schedule: &NoiseSchedule, timestep: i64, prev_timestep: i64, eta: f64) -> (f64, f64, f64) {
    let alpha = schedule.alpha_cumprod(timestep);
    let alpha_prev = schedule.alpha_cumprod(prev_timestep);
    // Both differences are at least 0 but for rounding: noise never grows along the way.
    let variance = (1.0 - alpha_prev) / (1.0 - alpha) * (1.0 - alpha / alpha_prev).max(0.0);
    let noise = eta * variance.sqrt();
    let direction = (1.0 - alpha_prev - noise * noise).max(0.0).sqrt();
    let (latents, output) = pred_original(alpha);
    (alpha_prev.sqrt() * latents, alpha_prev.sqrt() * output + direction, noise)
}
