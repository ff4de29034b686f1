//! Euler-ancestral: each step goes down past the next σ and comes back up to it with fresh noise.
//!
//! The ancestral step of k-diffusion, as diffusers' `EulerAncestralDiscreteScheduler`: the noise that is added is that of
//! DDPM's posterior (DDIM with an eta of 1) and the deterministic part is one Euler step.

use crate::plan::{LATENTS, Plan, Source, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::new(schedule, steps);
    let evaluations = path.steps().map(|step| {
        let (down, up) = ancestral(step.sigma, step.next_sigma);
        let terms = [(Source::State(LATENTS), 1.0), (Source::ModelOutput, down - step.sigma)];
        let update = Update::new(LATENTS, terms).with_noise(step.index, up);
        evaluation(LATENTS, step.timestep, step.sigma, step.index + 1, vec![update])
    });
    Plan::new(Sampler::EulerAncestral, steps.taken(), path.initial, evaluations.collect())
}

/// `(down, up)` with down² + up² = next²: where the deterministic part ends, and how much noise is added there.
pub(crate) fn ancestral(sigma: f64, next: f64) -> (f64, f64) {
    let ratio = next / sigma;
    // next² · (σ² − next²) / σ², which is not negative because σ falls; down is what remains of next².
    let up = next * (1.0 - ratio * ratio).max(0.0).sqrt();
    (next * ratio, up)
}
