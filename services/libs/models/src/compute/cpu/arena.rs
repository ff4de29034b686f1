//! The memory of activations: buffers that go back when their tensor drops, and are taken again by the next of like size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use darkroom_kernels::{Buffer, Precision, Values, ValuesMut};

/// Passes that an idle buffer outlives: the sizes that alternate stay, the memory of one large picture does not.
const PASSES_KEPT: u64 = 4;
/// A buffer serves a request that fills at least this part of it, so that small tensors do not take the large ones' memory.
const LEAST_FILLED: usize = 2;

/// Buffers not in use.
#[derive(Default)]
pub(super) struct Arena {
    idle: Mutex<Vec<Idle>>,
    /// Passes that have ended.
    pass: AtomicU64,
}

struct Idle {
    buffer: Buffer,
    /// The pass in which it was last in use.
    pass: u64,
}

impl Arena {
    /// Memory for `len` values, which are arbitrary, until the loan drops.
    pub(super) fn take(self: &Arc<Self>, len: usize, precision: Precision) -> Loan {
        Loan { buffer: Some(self.buffer(len, precision)), arena: Arc::clone(self) }
    }

    /// Memory for `len` values, which are arbitrary, to be given back.
    pub(super) fn buffer(&self, len: usize, precision: Precision) -> Buffer {
        let bytes = len * value_bytes(precision);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |entry: &Idle| (bytes..=LEAST_FILLED * bytes).contains(&entry.buffer.capacity());
        let smallest =
            idle.iter().enumerate().filter(|(_, entry)| fits(entry)).min_by_key(|(_, e)| e.buffer.capacity());
        let found = smallest.map(|(index, _)| index).map(|index| idle.swap_remove(index).buffer);
        drop(idle);
        let reused = found.and_then(|buffer| buffer.reuse(len, precision).ok());
        reused.unwrap_or_else(|| Buffer::zeroed(len, precision))
    }

    /// Says that a forward pass is over: gives memory back to the system that the last few passes had no use for.
    pub(super) fn end_pass(&self) {
        let pass = self.pass.fetch_add(1, Ordering::Relaxed);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|entry| entry.pass + PASSES_KEPT > pass);
    }

    /// Takes memory back for the next that asks for it.
    pub(super) fn give_back(&self, buffer: Buffer) {
        let pass = self.pass.load(Ordering::Relaxed);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Idle { buffer, pass });
    }
}

fn value_bytes(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    }
}

/// A buffer that goes back to its arena when it drops.
pub(super) struct Loan {
    /// Absent only while it drops.
    buffer: Option<Buffer>,
    arena: Arc<Arena>,
}

impl Loan {
    pub(super) fn values(&self) -> Values<'_> {
        self.buffer.as_ref().map_or(Values::F32(&[]), Buffer::values)
    }

    pub(super) fn values_mut(&mut self) -> ValuesMut<'_> {
        self.buffer.as_mut().map_or(ValuesMut::F32(&mut []), Buffer::values_mut)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.arena.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(arena: &Arena) -> usize {
        arena.idle.lock().unwrap().len()
    }

    #[test]
    fn memory_is_taken_again_by_what_nearly_fills_it() {
        let arena = Arc::new(Arena::default());
        drop(arena.take(1000, Precision::F32));
        drop(arena.take(2000, Precision::Bf16));
        assert_eq!(idle(&arena), 1);
        let half = arena.take(600, Precision::F32);
        assert_eq!((idle(&arena), half.values().len()), (0, 600));
        drop(half);
        // Too small, and too large.
        drop((arena.take(100, Precision::F32), arena.take(5000, Precision::F32)));
        assert_eq!(idle(&arena), 3);
    }

    #[test]
    fn a_large_pictures_memory_does_not_stay() {
        let arena = Arc::new(Arena::default());
        drop(arena.take(1 << 20, Precision::F32));
        for _ in 0..PASSES_KEPT + 1 {
            drop(arena.take(1000, Precision::F32));
            arena.end_pass();
        }
        assert_eq!(idle(&arena), 1);
    }
}
