//! UniPC: a predictor of second order whose every step is corrected once the model has looked at where it led.
//!
//! Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models" (2023), algorithms 1
//! and 2 over the predicted picture, as diffusers' `UniPCMultistepScheduler` with its defaults: order 2, `bh2`, final σ of
//! zero, first and last step of first order. At this order its predictor is DPM-Solver++ (2M).
//!
//! The corrector needs no evaluation of its own: the output at the predicted latents both corrects the step that led there
//! and begins the next one. What a correction takes from earlier is summed up in [`HALF_CORRECTED`] when its step is
//! predicted. The last evaluation corrects nothing: from there it is one step to no noise, which ends at the predicted
//! picture wherever it begins.

use crate::level::{Level, extrapolation, levels};
use crate::plan::{Evaluation, LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

/// x₀ as the evaluation before predicted it.
const PREVIOUS_ORIGINAL: StateId = 1;
/// The corrected latents of the coming evaluation but for their share of the x₀ that it will predict.
const HALF_CORRECTED: StateId = 2;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let (timesteps, levels) = levels(schedule, steps);
    let n = steps.taken();
    let mut evaluations = Vec::with_capacity(n);
    let mut came_by = None;
    for (i, (&timestep, &from)) in timesteps.iter().zip(&levels).enumerate() {
        let pred_original = from.original();
        let mut updates = vec![];
        if let Some(&to) = levels.get(i + 1) {
            let before = i.checked_sub(1).and_then(|before| levels.get(before)).copied();
            let step = Step { before, from, to };
            updates.push(step.predict(came_by.as_ref()));
            if i + 2 < n {
                updates.push(step.begin_to_correct(came_by.as_ref()));
                updates.push(original(PREVIOUS_ORIGINAL, pred_original));
            }
            came_by = Some(step);
        } else {
            updates.push(original(LATENTS, pred_original));
        }
        evaluations.push(Evaluation {
            timestep,
            step: i + 1,
            input: LATENTS,
            input_scale: 1.0,
            updates,
            pred_original,
        });
    }
    let initial = steps.initial_at(levels[0]);
    Plan::new(Sampler::UniPc, n, initial, evaluations)
}

/// `target` becomes x₀.
fn original(target: StateId, (latents, output): (f64, f64)) -> Update {
    Update::new(target, [(Source::State(LATENTS), latents), (Source::ModelOutput, output)])
}

/// From one evaluation's level to the next one's. `before` is where the step before began, if there was one.
struct Step {
    before: Option<Level>,
    from: Level,
    to: Level,
}

/// The weights with which a step takes the x₀ predicted before it, at its beginning and at its end. Their sum is 1.
struct Shares {
    before: f64,
    from: f64,
    to: f64,
}

impl Step {
    /// UniP: the line through the last two x₀, up to the middle of the step.
    fn predict(&self, came_by: Option<&Self>) -> Update {
        let extrapolation = self.before.map_or(0.0, |before| extrapolation(before, self.from, self.to));
        let shares = Shares { before: -extrapolation, from: 1.0 + extrapolation, to: 0.0 };
        self.go(LATENTS, &shares, came_by)
    }

    /// UniC, without the x₀ at the end, which is not known yet.
    fn begin_to_correct(&self, came_by: Option<&Self>) -> Update {
        self.go(HALF_CORRECTED, &self.correction(), came_by)
    }

    /// The step from the corrected latents: x₀ and latents of this evaluation, and what earlier ones left.
    fn go(&self, target: StateId, shares: &Shares, came_by: Option<&Self>) -> Update {
        let (ratio, weight) = self.from.transfer(self.to);
        let (latents, output) = self.from.original();
        // Nothing led to the first latents that could be corrected.
        let Some(came_by) = came_by else {
            let x0 = weight * shares.from;
            let terms = [(Source::State(LATENTS), ratio + x0 * latents), (Source::ModelOutput, x0 * output)];
            return Update::new(target, terms);
        };
        let correction = came_by.from.transfer(came_by.to).1 * came_by.correction().to;
        let x0 = ratio * correction + weight * shares.from;
        Update::new(
            target,
            [
                (Source::State(HALF_CORRECTED), ratio),
                (Source::State(LATENTS), x0 * latents),
                (Source::ModelOutput, x0 * output),
                (Source::State(PREVIOUS_ORIGINAL), weight * shares.before),
            ],
        )
    }

    /// UniC's weights. With one earlier x₀ they solve the order conditions ρ₁ + ρ₂ = b₁ and r₁ · ρ₁ + ρ₂ = b₂ of theorem 3.1,
    /// where r₁ is minus the ratio of the step before to this one in λ, and x₀'s differences are weighted by ρ₁ / r₁ and ρ₂.
    fn correction(&self) -> Shares {
        let previous = self.before.map_or(0.0, |before| before.length(self.from));
        // Also where a timestep is visited twice: see [`extrapolation`].
        if previous <= 0.0 {
            return Shares { before: 0.0, from: 0.5, to: 0.5 };
        }
        let h = self.from.length(self.to);
        let (b1, b1_less_b2) = order_conditions(h);
        let ratio = h / previous;
        let rho_1 = b1_less_b2 * ratio / (1.0 + ratio);
        let (before, to) = (-rho_1 * ratio, b1 - rho_1);
        Shares { before, from: 1.0 - before - to, to }
    }
}

/// b₁ = 1 / (1 − e^(−h)) − 1 / h and b₁ − b₂ = (2 · b₁ − 1) / h for a step of length h: with B(h) = e^(−h) − 1 these are the
/// right-hand sides of the order conditions over the predicted picture.
fn order_conditions(h: f64) -> (f64, f64) {
    if h < 0.01 {
        // Little would be left of both differences. The first terms that are left out here are below 1e-12.
        return (0.5 + h / 12.0 - h.powi(3) / 720.0, 1.0 / 6.0 - h * h / 360.0);
    }
    let b1 = -1.0 / (-h).exp_m1() - 1.0 / h;
    (b1, (2.0 * b1 - 1.0) / h)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScheduleConfig;
    use crate::sampler::PlanRequest;

    fn plan_of(n: usize) -> Plan {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        schedule.plan(&PlanRequest::new(Sampler::UniPc, n)).unwrap()
    }

    #[test]
    fn every_step_takes_one_evaluation() {
        for n in [1, 2, 3, 20] {
            let steps: Vec<usize> = plan_of(n).evaluations.iter().map(|evaluation| evaluation.step).collect();
            assert_eq!(steps, (1..=n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn history_is_kept_only_where_it_is_read() {
        assert_eq!([1, 2, 3, 20].map(|n| plan_of(n).num_states), [1, 1, 3, 3]);
        let updates: Vec<usize> = plan_of(5).evaluations.iter().map(|evaluation| evaluation.updates.len()).collect();
        assert_eq!(updates, [3, 3, 3, 1, 1]);
    }

    #[test]
    fn both_ways_to_the_order_conditions_meet() {
        let (series, closed) = (order_conditions(0.01 - 1e-12), order_conditions(0.01));
        assert!((series.0 - closed.0).abs() < 1e-12 && (series.1 - closed.1).abs() < 1e-10, "{series:?} {closed:?}");
    }
}
