//! A request's events on their way from the model's thread to the caller: bounded, and never in the thread's way.
//!
//! Sending never waits. When the reader is slow the oldest intermediate events are dropped; the end never is. Dropping the
//! reader is the cancellation: the thread sees it before its next evaluation. Dropping the sender without an end reads as
//! [`RunError::Stopped`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use std::time::Instant;

use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::error::RunError;

/// Intermediate events that wait for a slow reader at most. A preview of 64×64 latents is 64 KiB.
const BACKLOG: usize = 16;

/// What a reader sees.
#[derive(Debug, PartialEq)]
pub enum Event<P, E> {
    /// Some progress. Not every one arrives when the reader is slow; the newest ones do.
    Progress(P),
    /// The last event.
    End(Result<E, RunError>),
}

struct State<P, E> {
    progress: VecDeque<P>,
    end: Option<Result<E, RunError>>,
    ended: bool,
    reader_gone: bool,
    reader: Option<Waker>,
}

struct Shared<P, E>(Mutex<State<P, E>>);

impl<P, E> Shared<P, E> {
    fn lock(&self) -> MutexGuard<'_, State<P, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the reader after the lock is free again.
    fn change(&self, change: impl FnOnce(&mut State<P, E>)) {
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
pub(crate) struct Sender<P, E>(Arc<Shared<P, E>>);

/// The caller's side: a stream of [`Event`]s, the last of which is [`Event::End`].
pub struct Events<P, E> {
    shared: Arc<Shared<P, E>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Both sides of one request's events.
pub(crate) fn channel<P, E>() -> (Sender<P, E>, Events<P, E>) {
    let state = State { progress: VecDeque::new(), end: None, ended: false, reader_gone: false, reader: None };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender(Arc::clone(&shared)), Events { shared, deadline: None })
}

impl<P, E> Sender<P, E> {
    /// Tells of progress; the oldest untold progress gives way.
    pub(crate) fn progress(&self, progress: P) {
        self.0.change(|state| {
            if state.progress.len() == BACKLOG {
                state.progress.pop_front();
            }
            state.progress.push_back(progress);
        });
    }

    /// Tells the end.
    pub(crate) fn end(self, end: Result<E, RunError>) {
        self.0.change(|state| {
            state.end = Some(end);
            state.ended = true;
        });
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.lock().reader_gone
    }
}

impl<P, E> Drop for Sender<P, E> {
    fn drop(&mut self) {
        self.0.change(|state| {
            if !state.ended {
                state.end = Some(Err(RunError::Stopped));
                state.ended = true;
            }
        });
    }
}

impl<P, E> Events<P, E> {
    /// Ends the stream with [`RunError::DeadlineExceeded`] at `deadline`, even while the model is in the middle of an
    /// evaluation. Must be called within a tokio runtime.
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        self
    }
}

impl<P, E> Drop for Events<P, E> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.reader_gone = true;
        state.progress.clear();
    }
}

impl<P, E> Stream for Events<P, E> {
    type Item = Event<P, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { shared, deadline } = self.get_mut();
        let mut state = shared.lock();
        if let Some(progress) = state.progress.pop_front() {
            return Poll::Ready(Some(Event::Progress(progress)));
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
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_reader_loses_old_progress_but_never_the_end() {
        let (sender, events) = channel();
        for step in 0..100 {
            sender.progress(step);
        }
        sender.end(Ok("done"));
        let seen: Vec<_> = events.collect().await;
        assert_eq!(seen.len(), BACKLOG + 1);
        assert_eq!(seen[0], Event::Progress(100 - BACKLOG));
        assert_eq!(seen[BACKLOG], Event::End(Ok("done")));
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let (sender, mut events) = channel::<u32, ()>();
        let reader = tokio::spawn(async move { events.next().await });
        tokio::task::yield_now().await;
        sender.progress(1);
        assert_eq!(reader.await.unwrap(), Some(Event::Progress(1)));
        assert!(sender.is_abandoned(), "the reader was dropped with its task");
    }

    #[tokio::test]
    async fn the_deadline_ends_the_stream_without_the_sender() {
        let (sender, events) = channel::<u32, ()>();
        let events = events.until(Some(Instant::now()));
        sender.progress(1);
        let seen: Vec<_> = events.collect().await;
        assert_eq!(seen, [Event::Progress(1), Event::End(Err(RunError::DeadlineExceeded))]);
        assert!(sender.is_abandoned());
    }

    #[tokio::test]
    async fn a_sender_that_vanishes_reads_as_stopped() {
        let (sender, events) = channel::<u32, ()>();
        drop(sender);
        assert_eq!(events.collect::<Vec<_>>().await, [Event::End(Err(RunError::Stopped))]);
    }
}
