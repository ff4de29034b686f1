//! Checkpoints and leaving: what is told, when, and that a request goes on from it with the same bits.

use darkroom_samplers::Sampler;

use super::bench::*;
use super::fake::*;
use crate::batch::Turn;
use crate::checkpoint::Checkpoint;
use crate::events::Event;
use crate::observer::WasteReason;
use crate::request::DenoiseRequest;
use crate::slots::Budget;

#[test]
fn every_evaluation_is_told_but_the_last() {
    let mut bench = bench();
    let mut events = bench.submit(request_with(1.0, plan(Sampler::Plms, 3)));
    let mut seen = Vec::new();
    while bench.batch.turn() == Turn::Evaluated {
        seen.extend(told(&mut events));
    }
    let kinds: Vec<_> = seen
        .iter()
        .map(|event| match event {
            Event::Step(step) => format!("step {}", step.step),
            Event::Checkpoint(checkpoint) => format!("checkpoint {}", checkpoint.evaluation),
            Event::Draining => "draining".to_owned(),
            Event::End(_) => "end".to_owned(),
        })
        .collect();
    // The first step takes two evaluations.
    assert_eq!(kinds, ["checkpoint 1", "step 1", "checkpoint 2", "step 2", "checkpoint 3", "step 3", "end"]);
}

#[test]
fn a_request_resumed_at_any_evaluation_ends_with_the_same_bits() {
    for index in 0..kinds(4).len() {
        let this = || kinds(4).swap_remove(index);
        let mut bench = bench();
        let mut events = bench.submit(this());
        let mut seen = Vec::new();
        while bench.batch.turn() == Turn::Evaluated {
            seen.extend(told(&mut events));
        }
        let Some(Event::End(Ok(whole))) = seen.last() else { panic!("{seen:?}") };
        let checkpoints = checkpoints(&seen);
        assert_eq!(checkpoints.len(), this().plan.num_evaluations() - 1);
        for checkpoint in checkpoints {
            let mut elsewhere = Bench::new(Budget::pictures(8), 8);
            let request = DenoiseRequest { resume_from: Some(checkpoint.clone()), ..this() };
            let (sampler, evaluations) = (request.plan.sampler, request.evaluations());
            let events = elsewhere.submit(request);
            // In company of others that are somewhere else.
            let _company = elsewhere.submit(guided(9.0, 20));
            elsewhere.turns(evaluations);
            let (steps, end) = read(events);
            assert_eq!(end.unwrap().latents, whole.latents, "{sampler} resumed at {}", checkpoint.evaluation);
            let whole_steps =
                seen.iter().filter_map(|event| if let Event::Step(step) = event { Some(step) } else { None });
            let rest: Vec<_> = whole_steps.skip(seen_steps(&seen, checkpoint)).collect();
            assert_eq!(steps.iter().collect::<Vec<_>>(), rest, "{sampler} resumed at {}", checkpoint.evaluation);
        }
    }
}

/// Steps that were told before a checkpoint.
fn seen_steps(seen: &[Event], checkpoint: &Checkpoint) -> usize {
    let before = seen.iter().take_while(|event| !matches!(event, Event::Checkpoint(this) if this == checkpoint));
    before.filter(|event| matches!(event, Event::Step(_))).count()
}

#[test]
fn a_reader_that_sleeps_gets_the_newest_checkpoint_and_holds_nobody_up() {
    let mut bench = bench();
    let mut asleep = bench.submit(request(1.0, 50));
    let awake = bench.submit(request(2.0, 50));
    bench.turns(40);
    let seen = told(&mut asleep);
    let checkpoints = checkpoints(&seen);
    assert_eq!(checkpoints.iter().map(|checkpoint| checkpoint.evaluation).collect::<Vec<_>>(), [40]);
    assert!(matches!(&seen[seen.len() - 2], Event::Step(step) if step.step == 40), "{seen:?}");
    bench.run();
    read(awake).1.unwrap();
    assert_eq!(bench.log().len(), 50, "both were in every evaluation");
}

#[test]
fn a_closed_queue_tells_everyone_where_they_stand_and_goes_on() {
    let mut bench = Bench::new(Budget::pictures(2), 8);
    let mut running = bench.submit(request(1.0, 4));
    let mut other_size = bench.submit(sized(2.0, 4, 16));
    let mut waiting = bench.submit(request(3.0, 1));
    bench.turns(1);
    assert_eq!(checkpoints(&told(&mut running)).len(), 1);
    bench.queue.close_telling(|waiting| waiting.events.draining());
    assert_eq!(told(&mut waiting), [Event::Draining], "at once");
    bench.turns(1);
    let seen = told(&mut running);
    assert!(matches!(&seen[..], [Event::Checkpoint(at), Event::Draining] if at.evaluation == 1), "{seen:?}");
    // It was told as well, before anything was done for it; the notice that nobody read stays behind the newest checkpoint.
    let seen = told(&mut other_size);
    assert!(matches!(&seen[..], [Event::Step(_), Event::Checkpoint(at), Event::Draining] if at.evaluation == 1));
    bench.run();
    for events in [running, other_size, waiting] {
        let seen = all(events);
        assert!(!seen.contains(&Event::Draining), "it is told once: {seen:?}");
        assert!(matches!(seen.last(), Some(Event::End(Ok(_)))), "{seen:?}");
    }
}

#[test]
fn what_a_resumed_request_wasted_is_what_was_computed_here() {
    let mut bench = bench();
    let mut events = bench.submit(request(1.0, 9));
    bench.turns(5);
    let checkpoint = checkpoints(&told(&mut events))[0].clone();
    drop(events);
    bench.turns(1);
    assert_eq!(bench.wasted(), [(WasteReason::Cancelled, 5)]);
    let resumed = bench.submit(DenoiseRequest { resume_from: Some(checkpoint), ..request(1.0, 9) });
    bench.turns(2);
    drop(resumed);
    bench.run();
    assert_eq!(bench.wasted(), [(WasteReason::Cancelled, 2)]);
}
