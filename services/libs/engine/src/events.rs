//! A request's events on their way from the model's thread to the caller: bounded, and never in the thread's way.
//!
//! Sending never waits. When the reader is slow the oldest step events are dropped, and a checkpoint takes the place of the one
//! before it: the newest is never lost, and neither is the end. What is told arrives in the order in which it happened: a
//! checkpoint behind the steps that it contains, the notice of leaving right behind a checkpoint. Dropping the reader is the
//! cancellation: the thread sees it before its next evaluation. Dropping the sender without an end reads as
//! [`RunError::Stopped`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use std::time::Instant;

use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::request::{Finished, Step};

/// Step events that wait for a slow reader at most. A preview of 64×64 latents is 64 KiB.
const BACKLOG: usize = 16;

/// What a reader sees.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// A finished step. Not every one arrives when the reader is slow; the newest ones do.
    Step(Step),
    /// Where the request stands. When the reader is slow, only the newest arrives.
    Checkpoint(Checkpoint),
    /// The model's thread takes no new work and will end. All that was done for the request until now is in the checkpoint
    /// before this; the work goes on.
    Draining,
    /// The last event.
    End(Result<Finished, RunError>),
}

#[derive(Default)]
struct State {
    /// At most [`BACKLOG`] steps, one checkpoint and one notice of leaving.
    untold: VecDeque<Event>,
    draining: bool,
    end: Option<Result<Finished, RunError>>,
    ended: bool,
    reader_gone: bool,
    reader: Option<Waker>,
}

impl State {
    /// Takes the first untold event of a kind back.
    fn withdraw(&mut self, kind: fn(&Event) -> bool) -> bool {
        let index = self.untold.iter().position(kind);
        index.and_then(|index| self.untold.remove(index)).is_some()
    }
}

struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the reader after the lock is free again.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The thread's side.
pub(crate) struct Sender(Arc<Shared>);

/// The caller's side: a stream of [`Event`]s, the last of which is [`Event::End`].
pub struct Events {
    shared: Arc<Shared>,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Both sides of one request's events.
pub(crate) fn channel() -> (Sender, Events) {
    let shared = Arc::new(Shared(Mutex::default()));
    (Sender(Arc::clone(&shared)), Events { shared, deadline: None })
}

impl Sender {
    /// Tells of a step; the oldest untold one gives way.
    pub(crate) fn step(&self, step: Step) {
        self.0.change(|state| {
            if state.untold.iter().filter(|event| matches!(event, Event::Step(_))).count() == BACKLOG {
                state.withdraw(|event| matches!(event, Event::Step(_)));
            }
            state.untold.push_back(Event::Step(step));
        });
    }

    /// Tells where the request stands, in place of an untold checkpoint. A notice of leaving that is still untold stays
    /// behind the newest one.
    pub(crate) fn checkpoint(&self, checkpoint: Checkpoint) {
        self.0.change(|state| {
            state.withdraw(|event| matches!(event, Event::Checkpoint(_)));
            let draining = state.withdraw(|event| *event == Event::Draining);
            state.untold.push_back(Event::Checkpoint(checkpoint));
            state.untold.extend(draining.then_some(Event::Draining));
        });
    }

    /// Tells, once, that the thread will end.
    pub(crate) fn draining(&self) {
        self.0.change(|state| {
            if !state.draining {
                state.draining = true;
                state.untold.push_back(Event::Draining);
            }
        });
    }

    /// Tells the end. Nobody needs to go on elsewhere after it.
    pub(crate) fn end(self, end: Result<Finished, RunError>) {
        self.0.change(|state| {
            if end.is_ok() {
                state.untold.retain(|event| matches!(event, Event::Step(_)));
            }
            state.end = Some(end);
            state.ended = true;
        });
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.lock().reader_gone
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.change(|state| {
            if !state.ended {
                state.end = Some(Err(RunError::Stopped));
                state.ended = true;
            }
        });
    }
}

impl Events {
    /// Ends the stream with [`RunError::DeadlineExceeded`] at `deadline`, even while the model is in the middle of an
    /// evaluation. Must be called within a tokio runtime.
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        self
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.reader_gone = true;
        state.untold.clear();
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let Self { shared, deadline } = self.get_mut();
        let mut state = shared.lock();
        if let Some(event) = state.untold.pop_front() {
            return Poll::Ready(Some(event));
        }
        if let Some(end) = state.end.take() {
            return Poll::Ready(Some(Event::End(end)));
        }
        if state.ended || state.reader_gone {
            return Poll::Ready(None);
        }
        if let Some(timer) = deadline.as_mut()
            && timer.as_mut().poll(context).is_ready()
        {
            state.reader_gone = true;
            return Poll::Ready(Some(Event::End(Err(RunError::DeadlineExceeded))));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt;

    use super::*;

    fn step(step: usize) -> Step {
        Step { step, of: 100, predicted_original: None }
    }

    fn checkpoint(evaluation: usize) -> Checkpoint {
        Checkpoint { plan_version: 1, evaluation, states: vec![vec![evaluation as f32]], noise_draws: 0 }
    }

    fn finished() -> Result<Finished, RunError> {
        Ok(Finished { latents: vec![1.0], computed: Duration::ZERO, queued: Duration::ZERO })
    }

    /// What a reader that comes this late sees.
    async fn seen(sender: Sender, events: Events) -> Vec<Event> {
        drop(sender);
        events.collect().await
    }

    #[tokio::test]
    async fn a_slow_reader_loses_old_steps_but_never_the_end() {
        let (sender, events) = channel();
        for i in 0..100 {
            sender.step(step(i));
        }
        sender.end(finished());
        let seen: Vec<_> = events.collect().await;
        assert_eq!(seen.len(), BACKLOG + 1);
        assert_eq!(seen[0], Event::Step(step(100 - BACKLOG)));
        assert_eq!(seen[BACKLOG], Event::End(finished()));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_checkpoint_behind_its_steps() {
        let (sender, events) = channel();
        for i in 1..100 {
            sender.step(step(i));
            sender.checkpoint(checkpoint(i));
        }
        sender.step(step(100));
        let seen = seen(sender, events).await;
        assert_eq!(seen.len(), BACKLOG + 2);
        let tail = [Event::Step(step(99)), Event::Checkpoint(checkpoint(99)), Event::Step(step(100))];
        assert_eq!(seen[BACKLOG - 2..=BACKLOG], tail);
    }

    #[tokio::test]
    async fn the_notice_of_leaving_is_told_once_and_right_behind_the_newest_checkpoint() {
        let (sender, events) = channel();
        sender.checkpoint(checkpoint(1));
        sender.draining();
        sender.step(step(2));
        sender.checkpoint(checkpoint(2));
        sender.draining();
        let expected = [Event::Step(step(2)), Event::Checkpoint(checkpoint(2)), Event::Draining];
        assert_eq!(seen(sender, events).await[..3], expected);
    }

    #[tokio::test]
    async fn what_is_finished_needs_no_checkpoint() {
        let (sender, events) = channel();
        sender.step(step(1));
        sender.checkpoint(checkpoint(1));
        sender.draining();
        sender.end(finished());
        assert_eq!(events.collect::<Vec<_>>().await, [Event::Step(step(1)), Event::End(finished())]);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let (sender, mut events) = channel();
        let reader = tokio::spawn(async move { events.next().await });
        tokio::task::yield_now().await;
        sender.step(step(1));
        assert_eq!(reader.await.unwrap(), Some(Event::Step(step(1))));
        assert!(sender.is_abandoned(), "the reader was dropped with its task");
    }

    #[tokio::test]
    async fn the_deadline_ends_the_stream_without_the_sender() {
        let (sender, events) = channel();
        let events = events.until(Some(Instant::now()));
        sender.step(step(1));
        let seen: Vec<_> = events.collect().await;
        assert_eq!(seen, [Event::Step(step(1)), Event::End(Err(RunError::DeadlineExceeded))]);
        assert!(sender.is_abandoned());
    }

    #[tokio::test]
    async fn a_sender_that_vanishes_reads_as_stopped() {
        let (sender, events) = channel();
        assert_eq!(seen(sender, events).await, [Event::End(Err(RunError::Stopped))]);
    }
}
