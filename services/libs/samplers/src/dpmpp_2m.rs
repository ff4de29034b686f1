//! DPM-Solver++ (2M): an exponential integrator over the predicted picture and the one before it.
//!
//! Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022), algorithm 2, in the
//! form of diffusers' `DPMSolverMultistepScheduler`: midpoint, final σ of zero, first and last step of first order.

use crate::config::TimestepSpacing;
use crate::plan::{Evaluation, LATENTS, Plan, Source, StateId, Update};
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

/// x₀ as the evaluation before predicted it.
const PREVIOUS_ORIGINAL: StateId = 1;

/// One amount of noise in the variables of the paper, where x = α · x₀ + σ · ε and α² + σ² = 1.
#[derive(Clone, Copy)]
struct Level {
    alpha: f64,
    sigma: f64,
}

impl Level {
    /// From noise in units of the picture.
    fn new(sigma: f64) -> Self {
        let alpha = 1.0 / sigma.hypot(1.0);
        Self { alpha, sigma: sigma * alpha }
    }

    /// Half the logarithm of the signal-to-noise ratio; infinite where there is no noise.
    fn lambda(self) -> f64 {
        (self.alpha / self.sigma).ln()
    }
}

pub(crate) fn plan(schedule: &NoiseSchedule, n: usize) -> Plan {
    let timesteps = schedule.spacing(TimestepSpacing::Linspace).whole_above_zero(n);
    let mut levels: Vec<Level> = timesteps.iter().map(|&t| Level::new(schedule.sigma(t as f32))).collect();
    levels.push(Level::new(0.0));
    let evaluations = levels.windows(2).zip(&timesteps).enumerate().map(|(i, (pair, &timestep))| {
        let (from, to) = (pair[0], pair[1]);
        let is_last = i + 1 == n;
        let before = i.checked_sub(1).and_then(|before| levels.get(before)).copied();
        let extrapolation = before.filter(|_| !is_last).map_or(0.0, |before| extrapolation(before, from, to));

        // x₀ = latents · x + output · ε, from this evaluation alone.
        let (latents, output) = (1.0 / from.alpha, -from.sigma / from.alpha);
        // 1 − e^(−h), times α; with σ_t / σ_s in place of the exponential it is right for a final σ of zero too.
        let ratio = to.sigma / from.sigma;
        let weight = to.alpha - from.alpha * ratio;
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
    let evaluations = evaluations.collect();
    Plan::new(Sampler::DpmSolverPlusPlus2M, n, 1.0, evaluations)
}

/// How far to go on along the line from the previous x₀ to the current one: h / (2 · h₀), half the ratio of this step's
/// length in λ to the one before. Where that one had no length (1000 `linspace` steps visit a timestep twice) there is no
/// line, and the step is of first order.
fn extrapolation(before: Level, from: Level, to: Level) -> f64 {
    let previous = from.lambda() - before.lambda();
    if previous > 0.0 { (to.lambda() - from.lambda()) / (2.0 * previous) } else { 0.0 }
}
