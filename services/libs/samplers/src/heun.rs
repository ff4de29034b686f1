//! Heun's method along dx/dσ = ε: the slopes at both ends of a step, averaged.
//!
//! Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), algorithm 1, as diffusers'
//! `HeunDiscreteScheduler` with its defaults. Every step takes two evaluations but the last: it ends without noise, where
//! there is no slope, and is one of Euler's. So n steps take 2 · n − 1 evaluations.

use crate::plan::{LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

/// The end of the step as its first slope alone predicts it, which the second evaluation looks at.
const PREDICTED: StateId = 1;

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::new(schedule, steps);
    let mut evaluations = Vec::with_capacity(2 * steps.taken());
    for step in path.steps() {
        let length = step.next_sigma - step.sigma;
        let moved = |target, by| Update::new(target, [(Source::State(LATENTS), 1.0), (Source::ModelOutput, by)]);
        let finished = step.index + 1;
        let Some(next_timestep) = step.next_timestep else {
            evaluations.push(evaluation(LATENTS, step.timestep, step.sigma, finished, vec![moved(LATENTS, length)]));
            continue;
        };
        // Half of the way along each slope is all of it along their average.
        let first = vec![moved(PREDICTED, length), moved(LATENTS, length / 2.0)];
        evaluations.push(evaluation(LATENTS, step.timestep, step.sigma, step.index, first));
        let second = vec![moved(LATENTS, length / 2.0)];
        evaluations.push(evaluation(PREDICTED, next_timestep, step.next_sigma, finished, second));
    }
    Plan::new(Sampler::Heun, steps.taken(), path.initial, evaluations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScheduleConfig;
    use crate::sampler::PlanRequest;

    fn plan(n: usize) -> Plan {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        schedule.plan(&PlanRequest::new(Sampler::Heun, n)).unwrap()
    }

    #[test]
    fn every_step_but_the_last_takes_two_evaluations() {
        let plan = plan(3);
        let seen: Vec<_> = plan.evaluations.iter().map(|e| (e.timestep, e.step, e.input)).collect();
        let expected =
            [(999.0, 0, LATENTS), (499.5, 1, PREDICTED), (499.5, 1, LATENTS), (0.0, 2, PREDICTED), (0.0, 3, LATENTS)];
        assert_eq!((seen, plan.num_states), (expected.to_vec(), 2));
    }

    #[test]
    fn a_single_step_takes_one() {
        let plan = plan(1);
        assert_eq!((plan.num_evaluations(), plan.num_states, plan.evaluations[0].step), (1, 1, 1));
    }
}
