//! Memory on cache-line boundaries: packed weights that stay, and scratch that each thread keeps and reuses.

use std::cell::RefCell;

/// One cache line, so that an aligned 512-bit load never touches two.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u32; LINE_WORDS]);

const LINE_WORDS: usize = 16;

/// Zeroed 32-bit words that start on a cache line.
#[derive(Default)]
pub(crate) struct Words {
    lines: Vec<Line>,
    len: usize,
}

impl Words {
    pub(crate) fn zeroed(len: usize) -> Words {
        Words { lines: vec![Line([0; LINE_WORDS]); len.div_ceil(LINE_WORDS)], len }
    }

    /// At least `len` words with whatever they held before.
    fn grow(&mut self, len: usize) {
        self.lines.resize(self.lines.len().max(len.div_ceil(LINE_WORDS)), Line([0; LINE_WORDS]));
        self.len = self.lines.len() * LINE_WORDS;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_ptr(&self) -> *const u32 {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u32 {
        self.lines.as_mut_ptr().cast()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u32] {
        // SAFETY: `lines` holds at least `len` initialised words without padding between them.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }
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
