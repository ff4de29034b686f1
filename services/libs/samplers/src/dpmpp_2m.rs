//! DPM-Solver++ (2M): an exponential integrator over the predicted picture and the one before it.
//!
//! Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022), algorithm 2, in the
//! form of diffusers' `DPMSolverMultistepScheduler`: midpoint, final σ of zero, first and last step of first order.

use crate::config::TimestepSpacing;
use crate::level::{Level, extrapolation};
use crate::plan::{Evaluation, LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::start::Initial;

/// x₀ as the evaluation before predicted it.
const PREVIOUS_ORIGINAL: StateId = 1;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let timesteps = schedule.spacing(TimestepSpacing::Linspace).whole_above_zero(steps.n).split_off(steps.skipped);
    let n = timesteps.len();
    let mut levels: Vec<Level> = timesteps.iter().map(|&t| Level::new(schedule.sigma(t as f32))).collect();
    levels.push(Level::new(0.0));
    let evaluations = levels.windows(2).zip(&timesteps).enumerate().map(|(i, (pair, &timestep))| {
        let (from, to) = (pair[0], pair[1]);
        let is_last = i + 1 == n;
        let before = i.checked_sub(1).and_then(|before| levels.get(before)).copied();
        let extrapolation = before.filter(|_| !is_last).map_or(0.0, |before| extrapolation(before, from, to));

        // x₀ = latents · x + output · ε, from this evaluation alone.
        let (latents, output) = from.original();
        let (ratio, weight) = from.transfer(to);
        let current = weight * (1.0 + extrapolation);
        let mut latents_update = Update::new(
            LATENTS,
            [(Source::State(LATENTS), ratio + current * latents), (Source::ModelOutput, current * output)],
        );
        if extrapolation > 0.0 {
            let previous = Update::new(LATENTS, [(Source::State(PREVIOUS_ORIGINAL), -weight * extrapolation)]);
            latents_update.terms.extend(previous.terms);
        }
        let mut updates = vec![latents_update];
        // The last step is of first order: nothing reads what would be kept for it.
        if i + 2 < n {
            let terms = [(Source::State(LATENTS), latents), (Source::ModelOutput, output)];
            updates.push(Update::new(PREVIOUS_ORIGINAL, terms));
        }
        Evaluation {
            timestep: timestep as f32,
            step: i + 1,
            input: LATENTS,
            input_scale: 1.0,
            updates,
            pred_original: (latents, output),
        }
    });
    let initial = steps.initial(1.0, Initial::picture(levels[0]));
    Plan::new(Sampler::DpmSolverPlusPlus2M, n, initial, evaluations.collect())
}
