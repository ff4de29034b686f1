//! Euler's method along dx/dσ = ε, in latents that are not scaled down as noise is added.
//!
//! Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), algorithm 1 without its second
//! order, as diffusers' `EulerDiscreteScheduler` with its defaults.

use crate::plan::{LATENTS, Plan, Source, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::new(schedule, steps);
    let evaluations = path.steps().map(|step| {
        let terms = [(Source::State(LATENTS), 1.0), (Source::ModelOutput, step.next_sigma - step.sigma)];
        evaluation(LATENTS, step.timestep, step.sigma, step.index + 1, vec![Update::new(LATENTS, terms)])
    });
    Plan::new(Sampler::Euler, steps.taken(), path.initial, evaluations.collect())
}
