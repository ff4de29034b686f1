//! DPM2: the slope in the middle of a step, where log σ is half-way, taken for all of it.
//!
//! DPM-Solver-2 of Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps"
//! (2022), algorithm 1, brought to the ODE of Karras et al. (2022) by k-diffusion's `sample_dpm_2`, as diffusers'
//! `KDPM2DiscreteScheduler` with its defaults. Every step takes two evaluations but the last, which ends at a σ of zero and
//! is one of Euler's. So n steps take 2 · n − 1 evaluations.

use crate::plan::{LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

/// The middle of the step, which the second evaluation looks at. The latents wait at its beginning.
const MIDDLE: StateId = 1;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::rounded(schedule, steps);
    let mut evaluations = Vec::with_capacity(2 * steps.taken());
    for step in path.steps() {
        let moved = |target, to: f64| {
            vec![Update::new(target, [(Source::State(LATENTS), 1.0), (Source::ModelOutput, to - step.sigma)])]
        };
        let whole = moved(LATENTS, step.next_sigma);
        let finished = step.index + 1;
        if step.next_timestep.is_none() {
            evaluations.push(evaluation(LATENTS, step.timestep, step.sigma, finished, whole));
            continue;
        }
        let middle = (step.sigma * step.next_sigma).sqrt();
        let half = moved(MIDDLE, middle);
        evaluations.push(evaluation(LATENTS, step.timestep, step.sigma, step.index, half));
        evaluations.push(evaluation(MIDDLE, schedule.timestep(middle), middle, finished, whole));
    }
    Plan::new(Sampler::Dpm2, steps.taken(), path.initial, evaluations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScheduleConfig;
    use crate::sampler::PlanRequest;

    fn plan(n: usize) -> Plan {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        schedule.plan(&PlanRequest::new(Sampler::Dpm2, n)).unwrap()
    }

    #[test]
    fn the_second_evaluation_of_a_step_lies_between_the_first_ones() {
        let plan = plan(20);
        let steps: Vec<usize> = plan.evaluations.iter().map(|evaluation| evaluation.step).collect();
        assert_eq!((steps.len(), &steps[..4], steps[38]), (39, &[0, 1, 1, 2][..], 20));
        assert!(plan.evaluations.windows(2).all(|pair| pair[1].timestep < pair[0].timestep));
    }

    #[test]
    fn a_single_step_takes_one() {
        let plan = plan(1);
        assert_eq!((plan.num_evaluations(), plan.num_states, plan.evaluations[0].step), (1, 1, 1));
    }
}
