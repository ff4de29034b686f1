//! The way from the noisiest σ to zero of the samplers that integrate dx/dσ = ε.
//!
//! Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), equation 1 with s(t) = 1 and
//! σ(t) = t: latents are not scaled down as noise is added, only what the model sees of them is.

use crate::config::TimestepSpacing;
use crate::plan::{Evaluation, StateId, Update};
use crate::planning::Steps;
use crate::schedule::NoiseSchedule;
use crate::spacing::SigmaSpacing;
use crate::start::Initial;

/// Where the steps begin and end, as diffusers' Euler, Heun and KDPM2 schedulers choose it with their defaults.
pub(crate) struct SigmaPath {
    timesteps: Vec<f32>,
    /// One more than timesteps: the last is 0.
    sigmas: Vec<f64>,
    pub(crate) initial: Initial,
}

/// From one σ to the next.
pub(crate) struct SigmaStep {
    pub(crate) index: usize,
    pub(crate) timestep: f32,
    pub(crate) sigma: f64,
    pub(crate) next_sigma: f64,
    /// Where the step ends; `None` for the last one, which ends without noise, where no model was trained.
    pub(crate) next_timestep: Option<f32>,
}

impl SigmaPath {
    pub(crate) fn new(schedule: &NoiseSchedule, steps: Steps) -> Self {
        Self::with(schedule, steps, schedule.fractional_levels(steps))
    }

    /// The same, with Karras' spacing at whole timesteps, as diffusers' KDPM2 schedulers have it.
    pub(crate) fn rounded(schedule: &NoiseSchedule, steps: Steps) -> Self {
        let mut levels = schedule.fractional_levels(steps);
        if steps.spacing == Some(SigmaSpacing::Karras) {
            levels.iter_mut().for_each(|(timestep, _)| *timestep = timestep.round_ties_even());
        }
        Self::with(schedule, steps, levels)
    }

    /// `levels` of timestep and σ, the noisiest first, of which some are skipped.
    fn with(schedule: &NoiseSchedule, steps: Steps, mut levels: Vec<(f32, f64)>) -> Self {
        let levels = levels.split_off(steps.skipped);
        let timesteps: Vec<f32> = levels.iter().map(|(timestep, _)| *timestep).collect();
        let sigmas: Vec<f64> = levels.into_iter().map(|(_, sigma)| sigma).chain([0.0]).collect();
        let spacing = schedule.spacing(TimestepSpacing::Linspace);
        let sigma_max = sigmas.first().copied().unwrap_or(0.0);
        let init_noise_sigma = match spacing.kind {
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigma_max,
            // The first timestep is not the last trained one: what it would hold of the picture counts too.
            TimestepSpacing::Leading => sigma_max.hypot(1.0),
        };
        let initial = steps.initial(init_noise_sigma, Initial { original: 1.0, noise: sigma_max });
        Self { timesteps, sigmas, initial }
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = SigmaStep> + '_ {
        let pairs = self.sigmas.windows(2).zip(&self.timesteps).enumerate();
        pairs.map(|(index, (pair, &timestep))| SigmaStep {
            index,
            timestep,
            sigma: pair[0],
            next_sigma: pair[1],
            next_timestep: self.timesteps.get(index + 1).copied(),
        })
    }
}

/// The evaluation of state `input` at noise `sigma`: the model sees it with the variance that it was trained with.
pub(crate) fn evaluation(input: StateId, timestep: f32, sigma: f64, step: usize, updates: Vec<Update>) -> Evaluation {
    Evaluation { timestep, step, input, input_scale: 1.0 / sigma.hypot(1.0), updates, pred_original: (1.0, -sigma) }
}
