//! DPM-Solver++ (SDE): two stochastic stages a step, over one path of Brownian motion.
//!
//! k-diffusion's `sample_dpmpp_sde` with r = 1/2 and eta 1, as diffusers' `DPMSolverSDEScheduler`: the first stage goes half of the way in
//! λ, the second all of it with the x₀ that was predicted there. Their noises are increments of one path in σ, so the second stage's
//! is the first one's and a fresh one, by the lengths of the two parts.

use crate::euler_ancestral::ancestral;
use crate::plan::{LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

/// The first stage's end, which the second evaluation looks at.
const MIDDLE: StateId = 1;
/// The first stage's noise.
const FIRST_NOISE: StateId = 2;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::new(schedule, steps);
    let mut evaluations = Vec::with_capacity(2 * steps.taken());
    for step in path.steps() {
        let (sigma, next) = (step.sigma, step.next_sigma);
        let finished = step.index + 1;
        if step.next_timestep.is_none() {
            let terms = [(Source::State(LATENTS), 1.0), (Source::ModelOutput, next - sigma)];
            let updates = vec![Update::new(LATENTS, terms)];
            evaluations.push(evaluation(LATENTS, step.timestep, sigma, finished, updates));
            continue;
        }
        let middle = (sigma * next).sqrt();
        let (down, up) = ancestral(sigma, middle);
        let fresh = 2 * step.index;
        let first = Update::new(
            MIDDLE,
            [(Source::State(LATENTS), 1.0), (Source::ModelOutput, down - sigma), (Source::Noise(fresh), up)],
        );
        let keep = Update::new(FIRST_NOISE, [(Source::Noise(fresh), 1.0)]);
        evaluations.push(evaluation(LATENTS, step.timestep, sigma, step.index, vec![first, keep]));

        let (down, up) = ancestral(sigma, next);
        let original = 1.0 - down / sigma;
        let part = |from: f64, to: f64| ((from - to) / (sigma - next)).sqrt();
        let second = Update::new(
            LATENTS,
            [
                (Source::State(LATENTS), down / sigma),
                (Source::State(MIDDLE), original),
                (Source::ModelOutput, -original * middle),
                (Source::State(FIRST_NOISE), up * part(sigma, middle)),
                (Source::Noise(fresh + 1), up * part(middle, next)),
            ],
        );
        evaluations.push(evaluation(MIDDLE, schedule.timestep(middle), middle, finished, vec![second]));
    }
    Plan::new(Sampler::DpmSolverPlusPlusSde, steps.taken(), path.initial, evaluations)
}
