//! DDPM: one draw from the posterior of the step before, after another.
//!
//! Ho et al., "Denoising Diffusion Probabilistic Models" (2020), equations 6 and 7, as diffusers' `DDPMScheduler` with the smaller of its
//! two fixed variances and without clipping. It ends at a picture without noise, whatever `set_alpha_to_one` says.

use crate::config::TimestepSpacing;
use crate::ddim::pred_original;
use crate::plan::{Evaluation, LATENTS, Plan, Source, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let timesteps = schedule.spacing(TimestepSpacing::Leading).whole(steps.n).split_off(steps.skipped);
    let initial = steps.initial_at(schedule.level(timesteps[0]));
    let evaluations = timesteps.iter().enumerate().map(|(i, &timestep)| {
        let alpha_cumprod = schedule.alpha_cumprod(timestep);
        let before = timesteps.get(i + 1).map_or(1.0, |&next| schedule.alpha_cumprod(next));
        let alpha = alpha_cumprod / before;
        let beta = 1.0 - alpha;
        let (latents, output) = pred_original(alpha_cumprod);
        let x0 = before.sqrt() * beta / (1.0 - alpha_cumprod);
        let kept = alpha.sqrt() * (1.0 - before) / (1.0 - alpha_cumprod);
        let variance = (1.0 - before) / (1.0 - alpha_cumprod) * beta;
        let terms = [(Source::State(LATENTS), kept + x0 * latents), (Source::ModelOutput, x0 * output)];
        Evaluation {
            timestep: timestep as f32,
            step: i + 1,
            input: LATENTS,
            input_scale: 1.0,
            updates: vec![Update::new(LATENTS, terms).with_noise(i, variance.sqrt())],
            pred_original: (latents, output),
        }
    });
    Plan::new(Sampler::Ddpm, steps.taken(), initial, evaluations.collect())
}
