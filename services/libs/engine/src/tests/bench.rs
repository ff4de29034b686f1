//! A batch on a test's own clock, driven turn by turn, without a thread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio_stream::{Stream, StreamExt};

use super::fake::*;
use crate::batch::{Batch, Turn};
use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::events::{self, Event, Events};
use crate::load::LoadCell;
use crate::observer::WasteReason;
use crate::queue::Queue;
use crate::request::{DenoiseRequest, Finished, Step, Submission};
use crate::slots::Budget;
use crate::trace::InLine;

pub(super) struct Bench {
    pub(super) clock: FakeClock,
    pub(super) log: Log,
    pub(super) notes: Arc<Notes>,
    pub(super) queue: Arc<Queue<Submission>>,
    pub(super) load: Arc<LoadCell>,
    pub(super) batch: Batch<FakeModel>,
}

impl Bench {
    pub(super) fn new(budget: Budget, queue_limit: usize) -> Self {
        let (clock, log, notes) = (FakeClock::new(), Log::default(), Arc::new(Notes::default()));
        let (queue, load) = (Arc::new(Queue::new(queue_limit)), Arc::new(LoadCell::default()));
        let model = FakeModel { clock: clock.clone(), log: Arc::clone(&log), nods: None };
        let now = clock.clone();
        let observer = Arc::clone(&notes);
        let clock_fn = Box::new(move || now.now());
        let batch = Batch::new(model, Arc::clone(&queue), budget, Arc::clone(&load), observer, clock_fn);
        Self { clock, log, notes, queue, load, batch }
    }

    pub(super) fn submit(&self, request: DenoiseRequest) -> Events {
        self.submit_until(request, None)
    }

    /// `deadline`: seconds from now.
    pub(super) fn submit_until(&self, request: DenoiseRequest, deadline: Option<u64>) -> Events {
        let (sender, events) = events::channel();
        let now = self.clock.now();
        let deadline = deadline.map(|seconds| now + Duration::from_secs(seconds));
        let submission = Submission { request, events: sender, in_line: InLine::enter() };
        self.queue.push(submission, deadline, now).unwrap();
        events
    }

    pub(super) fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.batch.turn();
        }
    }

    pub(super) fn run(&mut self) {
        while self.batch.turn() == Turn::Evaluated {}
    }

    pub(super) fn log(&self) -> Vec<Vec<f32>> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub(super) fn wasted(&self) -> Vec<(WasteReason, usize)> {
        std::mem::take(&mut *self.notes.wasted.lock().unwrap())
    }
}

pub(super) fn bench() -> Bench {
    Bench::new(Budget::pictures(8), 8)
}

/// All that a reader sees of a request that has ended.
pub(super) fn all(events: Events) -> Vec<Event> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(events.collect())
}

/// The steps and the end of a request that has ended.
pub(super) fn read(events: Events) -> (Vec<Step>, Result<Finished, RunError>) {
    let (mut steps, mut ends) = (Vec::new(), Vec::new());
    for event in all(events) {
        match event {
            Event::Step(step) => steps.push(step),
            Event::Checkpoint(_) | Event::Draining => {}
            Event::End(end) => ends.push(end),
        }
    }
    assert_eq!(ends.len(), 1, "every request ends exactly once");
    (steps, ends.remove(0))
}

/// What was told so far of a request that still runs.
pub(super) fn told(events: &mut Events) -> Vec<Event> {
    let mut context = Context::from_waker(Waker::noop());
    let mut seen = Vec::new();
    while let Poll::Ready(Some(event)) = Pin::new(&mut *events).poll_next(&mut context) {
        seen.push(event);
    }
    seen
}

pub(super) fn checkpoints(events: &[Event]) -> Vec<&Checkpoint> {
    events.iter().filter_map(|event| if let Event::Checkpoint(at) = event { Some(at) } else { None }).collect()
}
