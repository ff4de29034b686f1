//! Filling one panel of packed weights: rows of the weights are turned into registers of columns, block by block.

use crate::element::Precision;
use crate::layout::{Columns, Panel, per_word};
use crate::matrix::Values;
use crate::memory::Scratch;
use crate::simd::{Arch, Kernel, Vector};
use crate::storage::Storage;

/// Registers of one block: with what is made of them they stay in the first two caches.
const BLOCK_REGISTERS: usize = 256;

/// What is packed of each channel's taps: themselves, or a transform of them.
pub(crate) trait Factors: Copy + Send + Sync {
    /// Taps of a channel.
    fn taps(self) -> usize;
    /// Factors of a channel.
    fn count(self) -> usize;
    /// Makes the factors of `channels` channels, a register each, from their taps; the result lies in `taps` or in `to`.
    ///
    /// # Safety
    /// `taps` holds the channels' taps, `to` has room for their factors.
    unsafe fn make<A: Arch>(self, channels: usize, taps: *const f32, to: *mut f32) -> *const f32;
}

/// The taps themselves.
#[derive(Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) taps: usize,
}

impl Factors for Direct {
    fn taps(self) -> usize {
        self.taps
    }

    fn count(self) -> usize {
        self.taps
    }

    #[inline(always)]
    unsafe fn make<A: Arch>(self, _channels: usize, taps: *const f32, _to: *mut f32) -> *const f32 {
        taps
    }
}

/// Fills one panel: for each factor, image and word of channels a line of columns.
pub(crate) struct Fill<'a, F> {
    pub(crate) precision: Precision,
    pub(crate) columns: Columns,
    /// `[n, channels, taps]`.
    pub(crate) weights: Values<'a>,
    pub(crate) n: usize,
    pub(crate) channels: &'a [usize],
    pub(crate) factors: F,
    pub(crate) panel: Panel,
    pub(crate) words: &'a mut [u32],
}

impl<F: Factors> Kernel for Fill<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        match self.weights {
            Values::F32(values) => self.fill::<A, f32>(values),
            Values::Bf16(values) => {
                // SAFETY: bf16 is its bits.
                let bits = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u16>(), values.len()) };
                self.fill::<A, u16>(bits);
            }
        }
    }
}

impl<F: Factors> Fill<'_, F> {
    #[inline(always)]
    fn fill<A: Arch, S: Storage>(self, weights: &[S]) {
        let Fill { precision, columns, n, channels, factors, panel, words, .. } = self;
        let (lanes, per_word) = (A::V::LANES, per_word(precision));
        let (taps, count) = (factors.taps(), factors.count());
        let all: usize = channels.iter().sum();
        let factor_words: usize = channels.iter().map(|c| c.div_ceil(per_word)).sum();
        let block = (BLOCK_REGISTERS / taps.max(count).max(1)).next_multiple_of(2);
        let mut scratch = Scratch::words(block * (taps + count) * lanes);
        let gathered: *mut f32 = scratch.as_mut_ptr().cast();
        // SAFETY: scratch holds the taps of a block, then its factors.
        let made = unsafe { gathered.add(block * taps * lanes) };
        assert_eq!(words.len(), count * factor_words * panel.vectors * lanes, "words of a panel");

        let (mut before, mut first_word) = (0, 0);
        for &c in channels {
            for start in (0..c).step_by(block) {
                let len = block.min(c - start);
                for vector in 0..panel.vectors {
                    for lane in 0..lanes {
                        let row = columns.row(n, panel.column, panel.vectors * lanes, vector * lanes + lane);
                        let row = row.map(|row| &weights[(row * all + before + start) * taps..][..len * taps]);
                        // SAFETY: a block's taps have a register each, this is a lane of them.
                        unsafe { gather(row, len * taps, gathered.add(lane), lanes) };
                    }
                    // SAFETY: a block has an even number of channels, so there is one more after an odd number of them; of
                    // the panel, lines are counted as its length was above.
                    unsafe {
                        let whole = len.next_multiple_of(per_word);
                        gathered.add(len * taps * lanes).write_bytes(0, (whole - len) * taps * lanes);
                        let made = factors.make::<A>(whole, gathered, made);
                        for factor in 0..count {
                            let line = factor * factor_words + first_word + start / per_word;
                            let to = words.as_mut_ptr().add((line * panel.vectors + vector) * lanes);
                            for word in 0..whole / per_word {
                                let to = to.add(word * panel.vectors * lanes);
                                let from = made.add((word * per_word * count + factor) * lanes);
                                match precision {
                                    Precision::F32 => A::V::load(from).store(to.cast()),
                                    Precision::Bf16 => {
                                        let next = A::V::load(from.add(count * lanes));
                                        A::pair_bf16(A::V::load(from), next).store(to.cast());
                                    }
                                }
                            }
                        }
                    }
                }
            }
            before += c;
            first_word += c.div_ceil(per_word);
        }
    }
}

/// Writes a row `lanes` apart, or zeros.
///
/// # Safety
/// `to` has room for `len` values `lanes` apart, as many as `row` has.
#[inline(always)]
unsafe fn gather<S: Storage>(row: Option<&[S]>, len: usize, to: *mut f32, lanes: usize) {
    for i in 0..len {
        let value = row.map_or(0.0, |row| row[i].widen());
        // SAFETY: the caller's promise.
        unsafe { to.add(i * lanes).write(value) };
    }
}
