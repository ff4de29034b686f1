//! DPM2 ancestral: a step of DPM-Solver-2 down past the next σ, and back up to it with fresh noise.
//!
//! k-diffusion's `sample_dpm_2_ancestral`, as diffusers' `KDPM2AncestralDiscreteScheduler` with its defaults. Two evaluations a step but
//! for the last, as [`dpm2`](crate::dpm2).

use crate::euler_ancestral::ancestral;
use crate::plan::{LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

/// The middle of the way down, which the second evaluation looks at.
const MIDDLE: StateId = 1;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::rounded(schedule, steps);
    let mut evaluations = Vec::with_capacity(2 * steps.taken());
    for step in path.steps() {
        let (down, up) = ancestral(step.sigma, step.next_sigma);
        let moved = |target, to: f64| {
            Update::new(target, [(Source::State(LATENTS), 1.0), (Source::ModelOutput, to - step.sigma)])
        };
        let finished = step.index + 1;
        if step.next_timestep.is_none() {
            evaluations.push(evaluation(LATENTS, step.timestep, step.sigma, finished, vec![moved(LATENTS, down)]));
            continue;
        }
        let middle = (step.sigma * down).sqrt();
        evaluations.push(evaluation(LATENTS, step.timestep, step.sigma, step.index, vec![moved(MIDDLE, middle)]));
        let whole = moved(LATENTS, down).with_noise(step.index, up);
        evaluations.push(evaluation(MIDDLE, schedule.timestep(middle), middle, finished, vec![whole]));
    }
    Plan::new(Sampler::Dpm2Ancestral, steps.taken(), path.initial, evaluations)
}
