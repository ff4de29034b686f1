//! A checkpoint at every evaluation of every sampler gives the same bits, and one that does not fit is refused.

use std::sync::mpsc;

use darkroom_samplers::{Plan, Sampler};
use proptest::prelude::*;

use super::fake::{noise, plan};
use crate::checkpoint::{Checkpoint, CheckpointError, state_name};
use crate::error::RunError;
use crate::given::Given;
use crate::run::{Run, held_bytes};

const LEN: usize = 700;

/// Evaluates until so many evaluations remain.
fn run_until(run: &mut Run, remaining: usize) {
    while run.remaining() > remaining {
        run.prepare_input();
        let timestep = run.timestep();
        let output: Vec<_> = run.input().iter().map(|x| (0.8 * x + timestep * 1e-3).sin()).collect();
        run.advance(&output).unwrap();
    }
}

fn start(plan: &Plan) -> Run {
    start_with(plan, Given::default())
}

fn start_with(plan: &Plan, given: Given) -> Run {
    Run::new(plan.clone(), LEN, given, Box::new(noise(5))).unwrap()
}

/// A picture of which every third pixel is kept, every third one half.
fn masked() -> Given {
    let original = (0..LEN).map(|i| (i as f32 * 0.7).cos()).collect();
    let mask = (0..LEN / 4).map(|i| [0.0, 0.5, 1.0][i % 3]).collect();
    Given { original: Some(original), mask: Some(mask), further_channels: Vec::new() }
}

/// A checkpoint in the middle of a request whose sampler draws noise.
fn middle() -> (Plan, Checkpoint) {
    let plan = plan(Sampler::EulerAncestral, 6);
    let mut run = start(&plan);
    run_until(&mut run, 3);
    (plan, run.checkpoint())
}

#[test]
fn a_run_resumed_at_any_evaluation_ends_with_the_same_bits() {
    for (sampler, given) in
        Sampler::ALL.into_iter().flat_map(|sampler| [(sampler, Given::default()), (sampler, masked())])
    {
        let plan = plan(sampler, 9);
        let mut whole = start_with(&plan, given.clone());
        run_until(&mut whole, 0);
        let whole = whole.into_latents();
        for remaining in 1..=plan.num_evaluations() {
            let mut first = start_with(&plan, given.clone());
            run_until(&mut first, remaining);
            let (noise, checkpoint) = (Box::new(noise(5)), first.checkpoint());
            let mut rest = Run::resume(plan.clone(), LEN, given.clone(), noise, checkpoint).unwrap();
            assert_eq!((rest.remaining(), rest.finishes_step()), (remaining, first.finishes_step()));
            run_until(&mut rest, 0);
            assert_eq!(rest.into_latents(), whole, "{sampler} with {remaining} evaluations left");
        }
    }
}

#[test]
fn what_a_mask_keeps_ends_as_it_was() {
    let Given { original, mask, .. } = masked();
    let (original, mask) = (original.unwrap(), mask.unwrap());
    for sampler in Sampler::ALL {
        let plan = plan(sampler, 9);
        let mut run = start_with(&plan, masked());
        run_until(&mut run, 0);
        let values = run.into_latents();
        let mut kept = mask.iter().cycle().zip(original.iter().zip(&values)).filter(|(mask, _)| **mask == 0.0);
        assert!(kept.all(|(_, (before, after))| before == after), "{sampler}");
    }
}

#[test]
fn a_mask_that_keeps_nothing_changes_nothing() {
    let plan = plan(Sampler::Heun, 9);
    let latents = |mut run: Run| {
        run_until(&mut run, 0);
        run.into_latents()
    };
    let open = Given { mask: Some(vec![1.0; LEN]), ..masked() };
    assert_eq!(latents(start_with(&plan, open)), latents(start(&plan)));
}

#[test]
fn what_does_not_fit_the_latents_is_refused() {
    let plan = plan(Sampler::Ddim, 3);
    let wrong = [
        Given { original: Some(vec![0.0; LEN - 1]), ..Given::default() },
        Given { original: None, ..masked() },
        Given { mask: Some(vec![1.0; 3]), ..masked() },
        Given { mask: Some(Vec::new()), ..masked() },
    ];
    for given in wrong {
        let refused = Run::new(plan.clone(), LEN, given, Box::new(noise(5)));
        assert!(matches!(refused, Err(RunError::Plan(_))));
    }
}

#[test]
fn further_channels_stand_behind_the_latents() {
    let further = vec![7.0; LEN / 4 * 5];
    let mut run = start_with(&plan(Sampler::Euler, 3), Given { further_channels: further.clone(), ..Given::default() });
    run.prepare_input();
    assert_eq!((run.elements(), &run.input()[LEN..]), (LEN, &further[..]));
}

#[test]
fn noise_is_passed_over_one_draw_at_a_time() {
    let (plan, checkpoint) = middle();
    let (told, asked) = mpsc::channel();
    let mut draw = noise(5);
    let source = move |n: usize| {
        told.send(n).unwrap();
        draw(n)
    };
    let draws = checkpoint.noise_draws;
    assert_eq!(draws, 3);
    let _resumed = Run::resume(plan, LEN, Given::default(), Box::new(source), checkpoint).unwrap();
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), vec![LEN; 1 + draws], "the initial latents, and each later draw");
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_by_its_field() {
    type Change = fn(&mut Checkpoint);
    let cases: [(Change, &str, &str); 9] = [
        (|c| c.plan_version += 1, "plan_version", "is not"),
        (|c| c.evaluation = 6, "evaluation", "6 is not in 0 to 5, the evaluations of this request"),
        (|c| c.evaluation = usize::MAX, "evaluation", "is not in 0 to 5"),
        (|c| c.evaluation = 2, "noise_draws", "3 is not 2, the draws that this request has used before evaluation 2"),
        (|c| c.noise_draws = 0, "noise_draws", "0 is not 3"),
        (|c| c.states.clear(), "states", "0 were sent; this request's sampler keeps 1"),
        (|c| c.states.push(vec![0.0; LEN]), "states", "2 were sent"),
        (|c| _ = c.states[0].pop(), "states", "latents has 699 values; this request's latents have 700"),
        (|c| c.states[0][9] = f32::NAN, "states", "element 9 of latents is NaN; every element must be finite"),
    ];
    for (change, field, text) in cases {
        let (plan, mut checkpoint) = middle();
        change(&mut checkpoint);
        let Err(RunError::Checkpoint(error)) = Run::resume(plan, LEN, Given::default(), Box::new(noise(5)), checkpoint)
        else {
            panic!("{field}: {text}")
        };
        assert_eq!(error.field(), field);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_a_run_holds_is_counted_with_a_checkpoint_on_its_way() {
    let plan = plan(Sampler::Plms, 9);
    let checkpoint = start(&plan).checkpoint();
    assert_eq!(checkpoint.bytes(), 4 * LEN * plan.num_states);
    assert_eq!(start(&plan).checkpoint_bytes(), checkpoint.bytes());
    assert!(held_bytes(&plan, LEN, &Given::default(), 2) > 2 * checkpoint.bytes());
    assert_eq!([0, 1, 3].map(state_name), ["latents", "state_1", "state_3"]);
}

proptest! {
    /// Whatever a peer sends, it is taken or refused, and what is taken runs to the end.
    #[test]
    fn no_checkpoint_breaks_a_run(
        sampler in proptest::sample::select(Sampler::ALL.to_vec()),
        steps in 1usize..6,
        plan_version in prop_oneof![9 => Just(Plan::VERSION), 1 => any::<u32>()],
        evaluation in prop_oneof![9 => 0usize..8, 1 => any::<usize>()],
        noise_draws in prop_oneof![9 => 0usize..8, 1 => any::<usize>()],
        lengths in proptest::collection::vec(prop_oneof![9 => Just(16usize), 1 => 0usize..40], 0..7),
        value in prop_oneof![9 => -4.0f32..4.0, 1 => any::<f32>()],
    ) {
        let plan = plan(sampler, steps);
        let states: Vec<Vec<f32>> = lengths.into_iter().map(|len| vec![value; len]).collect();
        let checkpoint = Checkpoint { plan_version, evaluation, states, noise_draws };
        match Run::resume(plan.clone(), 16, Given::default(), Box::new(noise(5)), checkpoint.clone()) {
            Ok(mut run) => {
                prop_assert_eq!(run.checkpoint(), checkpoint);
                run_until(&mut run, 0);
            }
            Err(RunError::Checkpoint(error)) => {
                let told = matches!(error, CheckpointError::PlanVersion { .. }) == (plan_version != Plan::VERSION);
                prop_assert!(told, "the version comes first: {}", error);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
