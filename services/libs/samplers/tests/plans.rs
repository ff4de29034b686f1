//! What holds of every plan: for any sampler, spacing and number of steps.

#![allow(clippy::unwrap_used, reason = "a plan that cannot be made fails its test")]

#[allow(dead_code, reason = "the golden tests use all of it")]
mod synthetic;

use darkroom_samplers::{
    BetaSchedule, LATENTS, NoiseSchedule, Plan, PlanRequest, Sampler, ScheduleConfig, SigmaSpacing, Source,
    TimestepSpacing,
};
use proptest::prelude::*;
use synthetic::Run;

const SPACINGS: [Option<TimestepSpacing>; 4] =
    [None, Some(TimestepSpacing::Leading), Some(TimestepSpacing::Trailing), Some(TimestepSpacing::Linspace)];

fn plan(config: &ScheduleConfig, sampler: Sampler, num_inference_steps: usize, eta: f64) -> Plan {
    let eta = if sampler == Sampler::Ddim { eta } else { 0.0 };
    NoiseSchedule::new(config)
        .unwrap()
        .plan(&PlanRequest { eta, ..PlanRequest::new(sampler, num_inference_steps) })
        .unwrap()
}

/// Everything that whoever runs a plan relies on.
fn check(plan: &Plan, most_timestep: f32, rounded: bool) {
    let name = format!("{} in {} steps", plan.sampler, plan.num_inference_steps);
    let n = plan.num_inference_steps;
    let evaluations = match plan.sampler {
        Sampler::Plms if n > 1 => n + 1,
        Sampler::Heun | Sampler::Dpm2 | Sampler::Dpm2Ancestral | Sampler::DpmSolverPlusPlusSde => 2 * n - 1,
        _ => n,
    };
    assert_eq!(plan.num_evaluations(), evaluations, "{name}");
    assert!(plan.initial.noise.is_finite() && plan.initial.noise > 0.0, "{name}");

    // KDPM2's schedulers round Karras' timesteps, and not those in the middle of their steps.
    let rounding = if rounded { 0.5 } else { 0.0 };
    let mut written = vec![false; plan.num_states];
    written[LATENTS] = true;
    let mut draws = 0;
    let mut step = 0;
    let mut timestep = most_timestep;
    for (i, evaluation) in plan.evaluations.iter().enumerate() {
        let name = format!("{name}, evaluation {i}: {evaluation:?}");
        assert!((0.0..=timestep + rounding).contains(&evaluation.timestep), "{name}: after timestep {timestep}");
        timestep = evaluation.timestep;
        assert!(evaluation.step == step || evaluation.step == step + 1, "{name}");
        step = evaluation.step;
        let (a, b) = evaluation.pred_original;
        assert!([evaluation.input_scale, a, b].iter().all(|value| value.is_finite()), "{name}");
        assert!(written[evaluation.input], "{name}");
        for term in evaluation.updates.iter().flat_map(|update| &update.terms) {
            assert!(term.coefficient.is_finite(), "{name}");
            if let Source::State(id) = term.source {
                assert!(written[id], "{name}: state {id} is read before it is written");
            }
        }
        for index in evaluation.noise_draws() {
            assert!(index >= draws, "{name}: noise {index} is read again");
        }
        draws = evaluation.noise_draws().map(|index| index + 1).max().unwrap_or(draws);
        for update in &evaluation.updates {
            written[update.target] = true;
        }
    }
    assert_eq!((step, draws), (n, plan.num_noise_draws()), "{name}");
    assert!(written.iter().all(|written| *written), "{name}: a state is never written");
}

#[test]
fn plans_are_sound_for_every_number_of_steps() {
    for sampler in Sampler::ALL {
        for n in 1..=sampler.most_steps(1000) {
            check(&plan(&ScheduleConfig::default(), sampler, n, 0.5), 999.0, false);
        }
    }
}

#[test]
fn plans_are_sound_at_the_ends_of_every_spacing() {
    for timestep_spacing in SPACINGS {
        for set_alpha_to_one in [false, true] {
            let config = ScheduleConfig {
                timestep_spacing,
                set_alpha_to_one: Some(set_alpha_to_one),
                ..ScheduleConfig::default()
            };
            for sampler in Sampler::ALL {
                let counts = (1..=20).chain([333, 334, 499, 500, 501, 998, 999, 1000]);
                for n in counts.filter(|n| *n <= sampler.most_steps(1000)) {
                    check(&plan(&config, sampler, n, 1.0), 999.0, false);
                }
            }
        }
    }
}

/// The goldens hold the timesteps of PLMS, DPM-Solver and Euler for every number of steps, and the script that made them says
/// that diffusers makes the others of these.
#[test]
fn samplers_share_their_timesteps() {
    for timestep_spacing in SPACINGS {
        let config = ScheduleConfig { timestep_spacing, ..ScheduleConfig::default() };
        for n in 1..=1000 {
            let timesteps = |sampler| -> Vec<f32> {
                plan(&config, sampler, n, 0.0).evaluations.iter().map(|evaluation| evaluation.timestep).collect()
            };
            assert_eq!(timesteps(Sampler::UniPc), timesteps(Sampler::DpmSolverPlusPlus2M));
            let euler = timesteps(Sampler::Euler);
            let twice: Vec<f32> = euler.iter().flat_map(|&timestep| [timestep; 2]).skip(1).collect();
            assert_eq!(timesteps(Sampler::Heun), twice);
            let dpm2 = timesteps(Sampler::Dpm2);
            assert!(dpm2.iter().step_by(2).eq(&euler));
            assert!(dpm2.windows(2).all(|pair| pair[1] < pair[0]), "{timestep_spacing:?} {n}: {dpm2:?}");
        }
    }
}

/// With a model that always sees the same picture in the noise, samplers that end without noise end at that picture.
#[test]
fn a_model_that_knows_the_picture_is_followed_to_it() {
    let picture = [0.7, -1.3, 0.0, 2.0];
    let noise: Vec<Vec<f64>> = (0..60).map(|i| picture.iter().map(|x| (x + f64::from(i)).cos()).collect()).collect();
    for (sampler, eta) in [
        (Sampler::Plms, 0.0),
        (Sampler::Ddim, 0.0),
        (Sampler::Ddim, 1.0),
        (Sampler::DpmSolverPlusPlus2M, 0.0),
        (Sampler::Euler, 0.0),
        (Sampler::EulerAncestral, 0.0),
        (Sampler::Heun, 0.0),
        (Sampler::Dpm2, 0.0),
        (Sampler::UniPc, 0.0),
        (Sampler::Lms, 0.0),
        (Sampler::Dpm2Ancestral, 0.0),
        (Sampler::DpmSolverPlusPlus2MSde, 0.0),
        (Sampler::DpmSolverPlusPlusSde, 0.0),
        (Sampler::Ddpm, 0.0),
    ] {
        for n in [1, 2, 3, 5, 30] {
            let config = ScheduleConfig { set_alpha_to_one: Some(true), ..ScheduleConfig::default() };
            let plan = plan(&config, sampler, n, eta);
            let mut run = Run::new(&plan, &[], &[1.0, -0.4, 0.3, 1.9]);
            for evaluation in &plan.evaluations {
                // The noise for which the predicted picture is this one.
                let (a, b) = evaluation.pred_original;
                let latents = &run.states[evaluation.input];
                let output: Vec<f64> = latents.iter().zip(picture).map(|(x, x0)| (x0 - a * x) / b).collect();
                run.apply(&output, &noise);
            }
            // PLMS averages the noise of several timesteps, which is the same noise only up to rounding.
            let error = run.states[LATENTS].iter().zip(picture).map(|(x, x0)| (x - x0).abs()).fold(0.0, f64::max);
            assert!(error < 1e-9, "{sampler} eta={eta} n={n}: off by {error:e}");
        }
    }
}

proptest! {
    // A failure prints the request it shrank to; there is no file to keep it in.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_sound_for_any_schedule(
        sampler in 0..Sampler::ALL.len(),
        spacing in 0..SPACINGS.len(),
        num_train_timesteps in 2usize..3000,
        share in 0.0..=1.0f64,
        beta_start in 1e-5..1e-3f64,
        growth in 0.0..0.01f64,
        steps_offset in proptest::option::of(0usize..5000),
        linear: bool,
        eta in 0.0..=1.0f64,
    ) {
        let config = ScheduleConfig {
            num_train_timesteps,
            beta_start,
            beta_end: beta_start + growth,
            beta_schedule: if linear { BetaSchedule::Linear } else { BetaSchedule::ScaledLinear },
            timestep_spacing: SPACINGS[spacing],
            steps_offset,
            ..ScheduleConfig::default()
        };
        let sampler = Sampler::ALL[sampler];
        let n = 1 + (share * (sampler.most_steps(num_train_timesteps) - 1) as f64) as usize;
        check(&plan(&config, sampler, n, eta), (num_train_timesteps - 1) as f32, false);
        if !sampler.sigma_spacings().is_empty() {
            let schedule = NoiseSchedule::new(&config).unwrap();
            let spacing = if linear { SigmaSpacing::Karras } else { SigmaSpacing::Exponential };
            let plan = schedule.plan(&PlanRequest { spacing: Some(spacing), ..PlanRequest::new(sampler, n) }).unwrap();
            check(&plan, (num_train_timesteps - 1) as f32, spacing == SigmaSpacing::Karras);
        }
    }
}
