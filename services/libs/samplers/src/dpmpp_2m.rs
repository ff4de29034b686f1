//! DPM-Solver++ (2M): an exponential integrator over the predicted picture and the one before it.
//!
//! Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022), algorithm 2, in the
//! form of diffusers' `DPMSolverMultistepScheduler`: midpoint, final σ of zero, first and last step of first order. The stochastic kind is
//! its `sde-dpmsolver++`, which is k-diffusion's `sample_dpmpp_2m_sde`: twice as far towards x₀, and back with fresh noise.

use crate::level::{Level, extrapolation, levels};
use crate::plan::{Evaluation, LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

/// x₀ as the evaluation before predicted it.
const PREVIOUS_ORIGINAL: StateId = 1;

/// Whether steps draw noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ode,
    Sde,
}

impl Kind {
    fn sampler(self) -> Sampler {
        match self {
            Self::Ode => Sampler::DpmSolverPlusPlus2M,
            Self::Sde => Sampler::DpmSolverPlusPlus2MSde,
        }
    }

    /// The step from one level to another while x₀ stays what it is, as the coefficients of x, x₀ and fresh noise.
    fn transfer(self, from: Level, to: Level) -> (f64, f64, f64) {
        let (ratio, weight) = from.transfer(to);
        match self {
            Self::Ode => (ratio, weight, 0.0),
            Self::Sde => {
                // e^(−h): how much smaller the noise is, in units of the picture.
                let shrunk = ratio * from.alpha / to.alpha;
                let share = 1.0 - shrunk * shrunk;
                (ratio * shrunk, to.alpha * share, to.sigma * share.sqrt())
            }
        }
    }
}

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps, kind: Kind) -> Plan {
    let (timesteps, mut levels) = levels(schedule, steps);
    let n = steps.taken();
    levels.push(Level::new(0.0));
    let evaluations = levels.windows(2).zip(&timesteps).enumerate().map(|(i, (pair, &timestep))| {
        let (from, to) = (pair[0], pair[1]);
        let is_last = i + 1 == n;
        let before = i.checked_sub(1).and_then(|before| levels.get(before)).copied();
        let extrapolation = before.filter(|_| !is_last).map_or(0.0, |before| extrapolation(before, from, to));

        // x₀ = latents · x + output · ε, from this evaluation alone.
        let (latents, output) = from.original();
        let (ratio, weight, noise) = kind.transfer(from, to);
        let current = weight * (1.0 + extrapolation);
        let mut latents_update = Update::new(
            LATENTS,
            [(Source::State(LATENTS), ratio + current * latents), (Source::ModelOutput, current * output)],
        );
        if extrapolation > 0.0 {
            let previous = Update::new(LATENTS, [(Source::State(PREVIOUS_ORIGINAL), -weight * extrapolation)]);
            latents_update.terms.extend(previous.terms);
        }
        let mut updates = vec![latents_update.with_noise(i, noise)];
        // The last step is of first order: nothing reads what would be kept for it.
        if i + 2 < n {
            let terms = [(Source::State(LATENTS), latents), (Source::ModelOutput, output)];
            updates.push(Update::new(PREVIOUS_ORIGINAL, terms));
        }
        Evaluation {
            timestep,
            step: i + 1,
            input: LATENTS,
            input_scale: 1.0,
            updates,
            pred_original: (latents, output),
        }
    });
    let initial = steps.initial_at(levels[0]);
    Plan::new(kind.sampler(), n, initial, evaluations.collect())
}
