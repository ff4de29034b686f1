//! One request's state against the plan computed plainly in f64.

use darkroom_samplers::{Plan, Sampler, Source};

use super::fake::{noise, plan};
use crate::error::RunError;
use crate::given::Given;
use crate::run::Run;

const LEN: usize = 1000;

/// A stand-in for the UNet that is smooth and depends on the timestep.
fn model(x: f64, timestep: f32) -> f64 {
    (0.8 * x + f64::from(timestep) * 1e-3).sin()
}

/// The plan by its definition: no blocks, no f32, no reuse of buffers. Noise is drawn all at once.
fn reference(plan: &Plan) -> Vec<f64> {
    let mut draw = noise(5);
    let mut drawn = || draw(LEN).into_iter().map(f64::from).collect::<Vec<_>>();
    let mut states = vec![vec![0.0; LEN]; plan.num_states];
    states[0] = drawn().into_iter().map(|value| value * plan.initial.noise).collect();
    let draws: Vec<_> = (0..2 * plan.evaluations.len()).map(|_| drawn()).collect();
    for evaluation in &plan.evaluations {
        let predict = |x: &f64| model(x * evaluation.input_scale, evaluation.timestep);
        let output: Vec<_> = states[evaluation.input].iter().map(predict).collect();
        let before = states.clone();
        for update in &evaluation.updates {
            states[update.target] = (0..LEN)
                .map(|i| {
                    let value = |source| match source {
                        Source::State(id) => before[id][i],
                        Source::ModelOutput => output[i],
                        Source::Noise(index) => draws[index][i],
                    };
                    update.terms.iter().map(|term| term.coefficient * value(term.source)).sum()
                })
                .collect();
        }
    }
    states.swap_remove(0)
}

fn run(plan: Plan) -> Vec<f32> {
    let mut run = Run::new(plan, LEN, Given::default(), Box::new(noise(5))).unwrap();
    while run.remaining() > 0 {
        run.prepare_input();
        let timestep = run.timestep();
        let output: Vec<_> = run.input().iter().map(|x| model(f64::from(*x), timestep) as f32).collect();
        run.advance(&output).unwrap();
    }
    run.into_latents()
}

#[test]
fn every_sampler_gives_the_plans_own_numbers() {
    for sampler in Sampler::ALL {
        let plan = plan(sampler, 12);
        let (expected, found) = (reference(&plan), run(plan));
        let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        let error = expected.iter().zip(&found).map(|(x, y)| (x - f64::from(*y)).powi(2)).sum::<f64>().sqrt();
        assert!(error <= 1e-5 * norm, "{sampler}: relative error {}", error / norm);
    }
}

#[test]
fn noise_is_drawn_once_and_in_order() {
    let ancestral = plan(Sampler::EulerAncestral, 4);
    let draws = ancestral.evaluations.len();
    let mut asked = 0;
    let (told, asks) = std::sync::mpsc::channel();
    let source = move |n: usize| {
        asked += 1;
        told.send((asked, n)).unwrap();
        vec![0.5; n]
    };
    let mut run = Run::new(ancestral, LEN, Given::default(), Box::new(source)).unwrap();
    while run.remaining() > 0 {
        run.advance(&vec![0.0; LEN]).unwrap();
    }
    let asks: Vec<_> = asks.try_iter().collect();
    assert!(asks.len() <= draws + 1 && asks.iter().all(|(_, n)| *n == LEN), "{asks:?}");
}

#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    let wrong_state = {
        let mut plan = plan(Sampler::Plms, 3);
        plan.num_states = 1;
        plan
    };
    let wrong_noise = {
        let mut plan = plan(Sampler::EulerAncestral, 3);
        plan.evaluations.swap(0, 1);
        plan
    };
    for plan in [wrong_state, wrong_noise] {
        assert!(matches!(Run::new(plan, LEN, Given::default(), Box::new(noise(1))), Err(RunError::Plan(_))));
    }
}

#[test]
fn a_value_that_is_not_finite_leaves_the_states_alone() {
    let mut run = Run::new(plan(Sampler::Ddim, 3), LEN, Given::default(), Box::new(noise(1))).unwrap();
    let mut output = vec![0.0; LEN];
    output[LEN - 1] = f32::INFINITY;
    assert_eq!(run.advance(&output), Err(RunError::NotFinite { evaluation: 0 }));
    assert_eq!(run.done(), 0);
}
