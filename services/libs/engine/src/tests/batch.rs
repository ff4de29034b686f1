//! Who is in each evaluation, and what happens to the others when one fails or leaves.

use std::time::Duration;

use darkroom_samplers::Sampler;

use super::bench::*;
use super::fake::*;
use crate::error::RunError;
use crate::events;
use crate::observer::WasteReason;
use crate::queue::Refused;
use crate::request::{Adapter, DenoiseRequest, Submission};
use crate::slots::Budget;
use crate::trace::InLine;

#[test]
fn requests_join_and_leave_at_every_evaluation() {
    let mut bench = bench();
    let first = bench.submit(request(1.0, 3));
    bench.turns(1);
    let second = bench.submit(guided(2.0, 1));
    let third = bench.submit(request(3.0, 2));
    bench.run();
    assert_eq!(bench.log(), [vec![1.0], vec![1.0, 0.0, 2.0, 3.0], vec![1.0, 3.0]]);
    for events in [first, second, third] {
        read(events).1.unwrap();
    }
}

#[test]
fn a_result_does_not_depend_on_its_companions() {
    let requests = || {
        // Long enough that the first is still there when the last joins.
        let mut all = kinds(12);
        all.push(guided(9.0, 7));
        all
    };
    let latents = |events| read(events).1.unwrap().latents;
    let alone: Vec<_> = requests()
        .into_iter()
        .map(|request| {
            let mut bench = bench();
            let events = bench.submit(request);
            bench.run();
            latents(events)
        })
        .collect();
    let mut bench = Bench::new(Budget::pictures(requests().len()), 8);
    let mut together = Vec::new();
    for request in requests() {
        together.push(bench.submit(request));
        bench.turns(1);
    }
    bench.run();
    assert!(bench.log().iter().any(|rows| rows.len() > requests().len()), "they ran together");
    assert_eq!(together.into_iter().map(latents).collect::<Vec<_>>(), alone);
}

#[test]
fn a_dropped_reader_frees_its_slot_before_the_next_evaluation() {
    let mut bench = Bench::new(Budget::pictures(2), 8);
    let kept = bench.submit(request(1.0, 6));
    let dropped = bench.submit(request(2.0, 6));
    let waits = bench.submit(request(3.0, 2));
    bench.turns(3);
    drop(dropped);
    bench.run();
    let expected = [vec![1.0, 2.0], vec![1.0, 2.0], vec![1.0, 2.0], vec![1.0, 3.0], vec![1.0, 3.0], vec![1.0]];
    assert_eq!(bench.log(), expected);
    assert_eq!(bench.wasted(), [(WasteReason::Cancelled, 3)]);
    read(kept).1.unwrap();
    assert_eq!(read(waits).1.unwrap().queued, Duration::from_secs(3));
}

#[test]
fn a_deadline_stops_the_work_at_the_next_evaluation() {
    let mut bench = Bench::new(Budget::pictures(1), 8);
    let running = bench.submit_until(request(1.0, 5), Some(2));
    let waiting = bench.submit_until(request(2.0, 5), Some(1));
    bench.run();
    assert_eq!(bench.log(), [[1.0], [1.0]]);
    assert_eq!(bench.wasted(), [(WasteReason::Deadline, 2)]);
    assert_eq!(read(running).1, Err(RunError::DeadlineExceeded));
    assert_eq!(read(waiting).1, Err(RunError::DeadlineExceeded));
}

#[test]
fn a_panic_or_error_ends_the_requests_of_its_batch_and_no_others() {
    for (prompt, message) in [(PANICS, "a row that panics"), (FAILS, "a row that fails"), (SHORT, "other sizes")] {
        let mut bench = bench();
        let healthy = bench.submit(request(1.0, 2));
        let bad = bench.submit(request(prompt, 2));
        let other_size = bench.submit(sized(2.0, 2, 16));
        bench.run();
        for events in [healthy, bad] {
            let error = read(events).1.unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        read(other_size).1.unwrap();
        let next = bench.submit(request(1.0, 2));
        bench.run();
        read(next).1.unwrap();
        assert_eq!(bench.wasted(), [(WasteReason::Failed, 0), (WasteReason::Failed, 0)]);
    }
}

#[test]
fn what_is_one_requests_fault_ends_only_that_request() {
    for (prompt, message) in [(UNPREPARED, "no such prompt"), (NAN, "not finite in evaluation 0")] {
        let mut bench = bench();
        let healthy = bench.submit(request(1.0, 2));
        let bad = bench.submit(request(prompt, 2));
        bench.run();
        read(healthy).1.unwrap();
        let error = read(bad).1.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn sizes_take_turns_and_none_starves() {
    let mut bench = bench();
    let requests = [sized(1.0, 4, 8), sized(2.0, 2, 16), sized(3.0, 3, 8)];
    let events: Vec<_> = requests.into_iter().map(|request| bench.submit(request)).collect();
    bench.run();
    // The large one is four times the work, so the small ones have four turns for its one.
    let small = vec![1.0, 3.0];
    assert_eq!(bench.log(), [small.clone(), vec![2.0], small.clone(), small, vec![1.0], vec![2.0]]);
    for events in events {
        read(events).1.unwrap();
    }
}

#[test]
fn the_queue_is_bounded_and_says_when_a_slot_becomes_free() {
    let mut bench = Bench::new(Budget::pictures(1), 1);
    let _running = bench.submit(request(1.0, 4));
    bench.turns(1);
    let waiting = bench.submit(request(2.0, 4));
    let push = |bench: &Bench| {
        let (sender, _events) = events::channel();
        bench.queue.push(
            Submission { request: request(3.0, 1), events: sender, in_line: InLine::enter() },
            None,
            bench.clock.now(),
        )
    };
    assert_eq!(push(&bench), Err(Refused::Full { limit: 1 }));
    assert_eq!(bench.load.read().next_slot(), Some(Duration::from_secs(3)));
    drop(waiting);
    assert_eq!(push(&bench), Ok(()), "an abandoned request gives its place back at once");
}

#[test]
fn steps_are_told_with_previews_where_they_are_due() {
    let mut bench = bench();
    let plan = plan(Sampler::Plms, 6);
    assert_eq!(plan.evaluations.len(), 7);
    let events = bench.submit(DenoiseRequest { preview_every: 4, ..request_with(1.0, plan) });
    bench.run();
    let (steps, end) = read(events);
    assert_eq!(steps.iter().map(|step| (step.step, step.of)).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6].map(|s| (s, 6)));
    let previewed: Vec<_> = steps.iter().filter(|step| step.predicted_original.is_some()).map(|s| s.step).collect();
    assert_eq!(previewed, [4]);
    assert_eq!(end.unwrap().computed, Duration::from_secs(7));
}

#[test]
fn a_wasted_wait_is_no_wasted_step() {
    let mut bench = Bench::new(Budget::pictures(1), 8);
    let running = bench.submit(request(1.0, 2));
    bench.turns(1);
    drop(bench.submit(request(2.0, 2)));
    bench.run();
    assert_eq!((bench.wasted(), bench.notes.waits.lock().unwrap().len()), (Vec::new(), 1));
    read(running).1.unwrap();
}

#[test]
fn a_small_request_passes_a_large_one_that_does_not_fit() {
    let budget = Budget { pixels: 4 * 64, bytes: usize::MAX, pictures: usize::MAX };
    let mut bench = Bench::new(budget, 8);
    let running = bench.submit(guided(1.0, 3));
    let large = bench.submit(sized(2.0, 1, 16));
    let small = bench.submit(guided(3.0, 2));
    bench.run();
    let (one, both) = (vec![0.0, 1.0], vec![0.0, 1.0, 0.0, 3.0]);
    assert_eq!(bench.log(), [both.clone(), both, one, vec![2.0]]);
    for events in [running, large, small] {
        read(events).1.unwrap();
    }
}

#[test]
fn memory_bounds_the_batch_texts_included() {
    // Two tokens a text and two texts: 4000 bytes, and 4·8·8·4 bytes for each of eleven tensors.
    let model = FakeModel { clock: FakeClock::new(), log: Log::default(), nods: None };
    let cost_of = |request: DenoiseRequest| request.cost(&model).bytes;
    let cost = cost_of(guided(1.0, 3));
    assert!((4000 + 5 * 1024..4000 + 12 * 1024).contains(&cost), "{cost}");
    let mut longer = guided(1.0, 3);
    longer.guidance.as_mut().unwrap().tokens = 5;
    assert_eq!(cost_of(longer), cost + 3 * TOKEN_BYTES, "a text is charged by its own length");
    let adapters = vec![Adapter { name: "style".into(), weight: 0.5 }];
    assert_eq!(cost_of(DenoiseRequest { adapters, ..guided(1.0, 3) }), cost + ADAPTER_BYTES);
    let budget = Budget { pixels: usize::MAX, bytes: 2 * cost, pictures: usize::MAX };
    let mut bench = Bench::new(budget, 8);
    let events: Vec<_> = (0..5).map(|i| bench.submit(guided(i as f32 + 1.0, 1))).collect();
    bench.run();
    assert_eq!(bench.log().iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(events.len(), 5);
}
