//! The waiting line between async callers and the model's thread: the plain [`Waiting`] behind a lock and a wake-up.
//!
//! The lock is held for moments only, never while the model computes, so async code may take it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::waiting::{Abandon, Waiting};

/// Why [`Queue::push`] gave the work back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { limit: usize },
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: Waiting<T>,
    open: bool,
}

impl<T: Abandon> Queue<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Mutex::new(State { waiting: Waiting::new(limit), open: true }), wake: Condvar::new() }
    }

    /// Puts work in line and wakes the thread.
    pub(crate) fn push(&self, item: T, deadline: Option<Instant>, now: Instant) -> Result<(), Refused> {
        let mut state = self.lock();
        if !state.open {
            return Err(Refused::Closed);
        }
        let limit = state.waiting.limit();
        state.waiting.push(item, deadline, now).map_err(|_| Refused::Full { limit })?;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Refuses new work from now on. What is in line stays there and is still done.
    pub(crate) fn close(&self) {
        self.close_telling(|_| {});
    }

    /// As [`Queue::close`]; `tell` hears of everything that was in line at that moment.
    pub(crate) fn close_telling(&self, tell: impl FnMut(&T)) {
        let mut state = self.lock();
        state.open = false;
        state.waiting.iter().for_each(tell);
        drop(state);
        self.wake.notify_all();
    }

    /// Whether it still takes work.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Refuses new work and drops what is in line: its owners learn that the thread stopped.
    pub(crate) fn abort(&self) {
        let mut state = self.lock();
        state.open = false;
        while state.waiting.pop().is_some() {}
        drop(state);
        self.wake.notify_all();
    }

    /// Looks at the line, or takes from it.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Waiting<T>) -> R) -> R {
        look(&mut self.lock().waiting)
    }

    /// Places taken.
    pub(crate) fn len(&self) -> usize {
        self.with(|waiting| waiting.len())
    }

    /// Blocks until there is work. `false` means that the line is closed and empty: there will never be any.
    pub(crate) fn wait(&self) -> bool {
        let idle = |state: &mut State<T>| state.open && state.waiting.is_empty();
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !state.waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic while the lock was held left the line as it was: every change to it is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Job;

    impl Abandon for Job {
        fn is_abandoned(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_closed_line_refuses_new_work_and_keeps_the_old() {
        let queue = Queue::new(4);
        let now = Instant::now();
        queue.push(Job, None, now).unwrap();
        queue.close();
        assert_eq!(queue.push(Job, None, now), Err(Refused::Closed));
        assert!(queue.wait());
        assert!(queue.with(|waiting| waiting.pop()).is_some());
        assert!(!queue.wait());
    }
}
