//! How many calls of ours a stage holds at once: as many as its workers have places for. Who finds none waits here in line.
//!
//! Without it, a large fleet of denoisers would have its pictures refused by the few who decode them. A picture keeps its slot
//! until it is through, so that no more are denoised than can be decoded.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Stage;

/// The gates of all lines. Lines with the same list of a stage have one gate there, so that a crowd of one model's calls lets those of
/// another through in their turn.
#[derive(Default)]
pub(crate) struct Gates(HashMap<(&'static str, BTreeSet<String>), Arc<Gate>>);

impl Gates {
    /// The gate to who is on this list of `stage`.
    pub(super) fn of(&mut self, stage: Stage, list: &[String]) -> Arc<Gate> {
        let key = (stage.name(), list.iter().cloned().collect());
        Arc::clone(self.0.entry(key).or_insert_with(Gate::new))
    }
}

/// Its size changes with the workers.
pub(crate) struct Gate {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Default)]
struct Size {
    places: usize,
    /// Places that are gone and still held: they are not given on.
    owed: usize,
}

/// One place, given back by drop.
pub(crate) struct Room {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// No places yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(0)), size: Mutex::default() })
    }

    /// The workers have so many places. None at all means that nobody is there, which is not to be waited out here: who looks
    /// for a worker is told.
    pub(super) fn resize(&self, places: usize) {
        let places = places.min(Semaphore::MAX_PERMITS);
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if places == 0 || places == size.places {
            return;
        }
        let before = std::mem::replace(&mut size.places, places);
        if places < before {
            let fewer = before - places;
            size.owed += fewer - self.free.forget_permits(fewer);
        } else {
            let more = places - before;
            let kept = more.min(size.owed);
            size.owed -= kept;
            self.free.add_permits(more - kept);
        }
    }

    /// A place, if one is free and nobody waits for it.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Room> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Room { gate: Arc::clone(self), permit: Some(permit) })
    }

    /// Waits for a place; who came first goes first.
    pub(super) async fn enter(self: &Arc<Self>) -> Room {
        // It is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Room { gate: Arc::clone(self), permit }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut size = self.gate.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size.owed > 0 {
            size.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn enter(gate: &Arc<Gate>) -> Option<Room> {
        poll(pin!(gate.enter()))
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn as_many_get_in_as_there_are_places() {
        let gate = Gate::new();
        assert!(enter(&gate).is_none());
        gate.resize(2);
        let (first, second) = (enter(&gate), enter(&gate));
        assert!(first.is_some() && second.is_some() && enter(&gate).is_none());
        drop(first);
        assert!(enter(&gate).is_some());
    }

    #[test]
    fn nobody_there_leaves_it_as_it_is() {
        let gate = Gate::new();
        gate.resize(1);
        gate.resize(0);
        assert!(enter(&gate).is_some());
    }

    #[tokio::test]
    async fn who_came_first_goes_first() {
        let gate = Gate::new();
        gate.resize(1);
        let held = gate.enter().await;
        let (mut first, mut second) = (pin!(gate.enter()), pin!(gate.enter()));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(held);
        assert!(poll(second.as_mut()).is_none() && gate.try_enter().is_none());
        assert!(poll(first.as_mut()).is_some());
    }

    #[test]
    fn those_with_the_same_list_wait_in_one_line() {
        let mut gates = Gates::default();
        let list = |names: [&str; 2]| names.map(str::to_owned);
        let first = gates.of(Stage::Vae, &list(["a", "b"]));
        assert!(Arc::ptr_eq(&first, &gates.of(Stage::Vae, &list(["b", "a"]))));
        assert!(!Arc::ptr_eq(&first, &gates.of(Stage::TextEncoder, &list(["a", "b"]))));
        assert!(!Arc::ptr_eq(&first, &gates.of(Stage::Vae, &list(["a", "c"]))));
    }

    proptest! {
        #[test]
        fn never_more_than_places_once_those_who_were_in_have_left(sizes in prop::collection::vec(1usize..6, 1..40)) {
            let gate = Gate::new();
            let mut inside = VecDeque::new();
            for places in sizes {
                gate.resize(places);
                let before = inside.len();
                inside.extend(std::iter::from_fn(|| enter(&gate)));
                prop_assert_eq!(inside.len(), before.max(places));
                // One leaves a round.
                inside.pop_front();
                if inside.len() >= places {
                    prop_assert!(enter(&gate).is_none());
                }
            }
        }
    }
}
