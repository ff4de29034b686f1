//! PLMS: Adams-Bashforth over the model's last four outputs, begun with one step of improved Euler.
//!
//! Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds" (2022), without its Runge-Kutta start, as in
//! CompVis' `PLMSSampler` and diffusers' `PNDMScheduler` with `skip_prk_steps`. The first step takes two evaluations, so a
//! plan has one more than steps; a single step takes one.

use crate::config::TimestepSpacing;
use crate::ddim::{pred_original, transfer};
use crate::plan::{Evaluation, LATENTS, Plan, Source, StateId, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;

/// The latents of the first step wait here for its second evaluation. The second output to be kept comes here later.
const FIRST_LATENTS: StateId = 2;

/// Where the model's i-th kept output lies: the last three take turns.
fn kept(i: usize) -> StateId {
    1 + i % 3
}

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let mut timesteps = schedule.spacing(TimestepSpacing::Leading).whole(steps.n);
    let stride = (schedule.num_train_timesteps() / steps.n) as i64;
    // The first step is taken twice, and its end looked at twice. What is passed over is passed over in this list.
    if let Some(&second) = timesteps.get(1) {
        timesteps.insert(1, second);
    }
    let timesteps = timesteps.split_off(steps.skipped);
    let initial = steps.initial_at(schedule.level(timesteps[0]));
    let evaluations = timesteps.iter().enumerate().map(|(i, &timestep)| {
        let is_last = i + 1 == timesteps.len();
        match i {
            0 => predict(schedule, timestep, timestep - stride, is_last),
            // From where the step began, with the slope averaged over both of its ends.
            1 => correct(schedule, timestep + stride, timestep),
            _ => multistep(schedule, timestep, timestep - stride, i - 1, is_last),
        }
    });
    Plan::new(Sampler::Plms, steps.taken(), initial, evaluations.collect())
}

/// The first evaluation: a first-order step, which is all when there is only one step.
fn predict(schedule: &NoiseSchedule, timestep: i64, prev_timestep: i64, is_last: bool) -> Evaluation {
    let (latents, output) = transfer(schedule, timestep, prev_timestep);
    let mut updates = vec![Update::new(LATENTS, [(Source::State(LATENTS), latents), (Source::ModelOutput, output)])];
    if !is_last {
        updates.push(Update::new(FIRST_LATENTS, [(Source::State(LATENTS), 1.0)]));
        updates.push(Update::new(kept(0), [(Source::ModelOutput, 1.0)]));
    }
    evaluation(schedule, timestep, usize::from(is_last), updates)
}

/// The second evaluation, at the far end of the first step. Its output is not kept.
fn correct(schedule: &NoiseSchedule, timestep: i64, prev_timestep: i64) -> Evaluation {
    let (latents, output) = transfer(schedule, timestep, prev_timestep);
    let terms = [
        (Source::State(FIRST_LATENTS), latents),
        (Source::State(kept(0)), output / 2.0),
        (Source::ModelOutput, output / 2.0),
    ];
    evaluation(schedule, prev_timestep, 1, vec![Update::new(LATENTS, terms)])
}

/// Step `i + 1`, with `i` outputs kept before it.
fn multistep(schedule: &NoiseSchedule, timestep: i64, prev_timestep: i64, i: usize, is_last: bool) -> Evaluation {
    let (latents, output) = transfer(schedule, timestep, prev_timestep);
    let state = Source::State(LATENTS);
    let past = |back: usize| Source::State(kept(i - back));
    let update = match i {
        1 => Update::new(
            LATENTS,
            [(state, latents), (Source::ModelOutput, output * 3.0 / 2.0), (past(1), -output / 2.0)],
        ),
        2 => Update::new(
            LATENTS,
            [
                (state, latents),
                (Source::ModelOutput, output * 23.0 / 12.0),
                (past(1), -output * 16.0 / 12.0),
                (past(2), output * 5.0 / 12.0),
            ],
        ),
        _ => Update::new(
            LATENTS,
            [
                (state, latents),
                (Source::ModelOutput, output * 55.0 / 24.0),
                (past(1), -output * 59.0 / 24.0),
                (past(2), output * 37.0 / 24.0),
                (past(3), -output * 9.0 / 24.0),
            ],
        ),
    };
    let mut updates = vec![update];
    if !is_last {
        updates.push(Update::new(kept(i), [(Source::ModelOutput, 1.0)]));
    }
    evaluation(schedule, timestep, i + 1, updates)
}

fn evaluation(schedule: &NoiseSchedule, timestep: i64, step: usize, updates: Vec<Update>) -> Evaluation {
    Evaluation {
        timestep: timestep as f32,
        step,
        input: LATENTS,
        input_scale: 1.0,
        updates,
        pred_original: pred_original(schedule.alpha_cumprod(timestep)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScheduleConfig;
    use crate::sampler::PlanRequest;

    fn plan(n: usize) -> Plan {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        schedule.plan(&PlanRequest::new(Sampler::Plms, n)).unwrap()
    }

    #[test]
    fn the_first_step_takes_two_evaluations() {
        let plan = plan(50);
        let steps: Vec<usize> = plan.evaluations.iter().map(|evaluation| evaluation.step).collect();
        assert_eq!((steps.len(), &steps[..4], steps[50]), (51, &[0, 1, 2, 3][..], 50));
        let timesteps: Vec<f32> = plan.evaluations.iter().map(|evaluation| evaluation.timestep).collect();
        assert_eq!(timesteps[..4], [981.0, 961.0, 961.0, 941.0]);
        assert_eq!(plan.num_states, 4);
    }

    #[test]
    fn a_single_step_takes_one() {
        let plan = plan(1);
        assert_eq!((plan.num_evaluations(), plan.num_states, plan.evaluations[0].step), (1, 1, 1));
    }
}
