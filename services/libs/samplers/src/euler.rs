//! Euler's method along dx/dσ = ε, in latents that are not scaled down as noise is added.
//!
//! Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), algorithm 1 without its second
//! order, as diffusers' `EulerDiscreteScheduler` with its defaults.

use crate::config::TimestepSpacing;
use crate::plan::{Evaluation, LATENTS, Plan, Source, Update};
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

pub(crate) fn plan(schedule: &NoiseSchedule, n: usize) -> Plan {
    let path = SigmaPath::new(schedule, n);
    let evaluations = path.steps().map(|(i, timestep, sigma, next)| {
        let terms = [(Source::State(LATENTS), 1.0), (Source::ModelOutput, next - sigma)];
        evaluation(i, timestep, sigma, Update::new(LATENTS, terms))
    });
    Plan::new(Sampler::Euler, n, path.init_noise_sigma, evaluations.collect())
}

/// The way of both Euler samplers from the noisiest σ to zero.
pub(crate) struct SigmaPath {
    timesteps: Vec<f32>,
    /// One more than timesteps: the last is 0.
    sigmas: Vec<f64>,
    /// Standard deviation of the initial latents.
    pub(crate) init_noise_sigma: f64,
}

impl SigmaPath {
    pub(crate) fn new(schedule: &NoiseSchedule, n: usize) -> Self {
        let spacing = schedule.spacing(TimestepSpacing::Linspace);
        let timesteps = spacing.fractional(n);
        let sigmas: Vec<f64> = timesteps.iter().map(|&t| schedule.sigma(t)).chain([0.0]).collect();
        let sigma_max = sigmas.first().copied().unwrap_or(0.0);
        let init_noise_sigma = match spacing.kind {
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigma_max,
            // The first timestep is not the last trained one: what it would hold of the picture counts too.
            TimestepSpacing::Leading => sigma_max.hypot(1.0),
        };
        Self { timesteps, sigmas, init_noise_sigma }
    }

    /// `(index, timestep, σ, next σ)` of every step.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (usize, f32, f64, f64)> + '_ {
        let pairs = self.sigmas.windows(2).zip(&self.timesteps).enumerate();
        pairs.map(|(i, (pair, &timestep))| (i, timestep, pair[0], pair[1]))
    }
}

/// The evaluation at `sigma`: the model sees latents of the variance that it was trained with.
pub(crate) fn evaluation(i: usize, timestep: f32, sigma: f64, update: Update) -> Evaluation {
    Evaluation {
        timestep,
        step: i + 1,
        input: LATENTS,
        input_scale: 1.0 / sigma.hypot(1.0),
        updates: vec![update],
        pred_original: (1.0, -sigma),
    }
}
