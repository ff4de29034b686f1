//! Memory on cache-line boundaries: packed weights that stay, and scratch that each thread keeps and reuses.

use std::cell::RefCell;

/// Words of a cache line: an aligned 512-bit load never touches two.
pub(crate) const LINE_WORDS: usize = 16;

/// Zeroed 32-bit words that start on a cache line.
#[derive(Default)]
pub(crate) struct Words {
    /// The words, after those that lie before the first line and with as many in reserve. A plain vector, because only such a one
    /// is zeroed by the system page by page, when and by whom it is first touched.
    memory: Vec<u32>,
    /// Words before the first line.
    skipped: usize,
    len: usize,
}

impl Words {
    pub(crate) fn zeroed(len: usize) -> Words {
        let memory = vec![0_u32; len + LINE_WORDS - 1];
        ask_for_huge_pages(&memory);
        let skipped = memory.as_ptr().align_offset(4 * LINE_WORDS).min(LINE_WORDS - 1);
        Words { memory, skipped, len }
    }

    /// At least `len` words, whatever they hold.
    fn grow(&mut self, len: usize) {
        if self.len < len {
            *self = Words::zeroed(len);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_ptr(&self) -> *const u32 {
        self.memory[self.skipped..].as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u32 {
        self.memory[self.skipped..].as_mut_ptr()
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.memory[self.skipped..][..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u32] {
        &mut self.memory[self.skipped..][..self.len]
    }
}

/// Asks the system for huge pages where `memory` spans whole ones: packing then faults once instead of 512 times, and kernels that
/// stream weights miss fewer translations. A hint: without it everything works, more slowly.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(memory: &[u32]) {
    use rustix::mm::{Advice, madvise};
    const HUGE_PAGE: usize = 2 << 20;
    let (start, end) = (memory.as_ptr().addr(), memory.as_ptr_range().end.addr());
    let (first, last) = (start.next_multiple_of(HUGE_PAGE), end / HUGE_PAGE * HUGE_PAGE);
    if first < last {
        // SAFETY: whole pages inside `memory`; the advice changes nothing that they hold.
        let asked = unsafe {
            let pages = memory.as_ptr().cast_mut().cast::<u8>().add(first - start);
            madvise(pages.cast(), last - first, Advice::LinuxHugepage)
        };
        // A system without huge pages says so; there is nothing to be done about it.
        let _ = asked;
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_memory: &[u32]) {}

/// Asks for the cache line at `at`, which need not exist, to be brought into the second-level cache.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32) {
    // SAFETY: a hint reads nothing; every x86-64 has the instruction.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

thread_local! {
    /// Buffers not in use. A stack, because a thread that waits in a parallel section may start another kernel meanwhile.
    static IDLE: RefCell<Vec<Words>> = const { RefCell::new(Vec::new()) };
}

/// Scratch words of this thread, given back on drop. What they hold is arbitrary but initialised.
pub(crate) struct Scratch(Words);

impl Scratch {
    pub(crate) fn words(len: usize) -> Scratch {
        let mut words = IDLE.with_borrow_mut(Vec::pop).unwrap_or_default();
        words.grow(len);
        Scratch(words)
    }

    /// The start of the words; they are used through this pointer alone.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u32 {
        self.0.as_mut_ptr()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.0);
        // A thread that is ending has no stack to give back to.
        let _ = IDLE.try_with(|idle| idle.borrow_mut().push(words));
    }
}
