//! Keys and values of an attention layer in panels: packed once, then read by every block of queries.
//!
//! Scores are a GEMM of queries with keys as the weights, the weighted sum of values is a GEMM of weights over tokens; so both
//! are packed as a linear layer's weights are, head by head. The text's are packed when a request is admitted and kept.

use crate::convert::convert_row;
use crate::element::Precision;
use crate::isa::Isa;
use crate::layout::{Panel, lanes, panels, per_word};
use crate::matrix::Matrix;
use crate::memory::{Scratch, Words};
use crate::rows::Source;
use crate::simd::{Arch, Kernel, dispatch};
use rayon::prelude::*;

/// Keys and values of all heads of one sequence.
pub struct KeyValues {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
    pub(crate) tokens: usize,
    /// Columns are tokens, the reduction runs over the head's values.
    pub(crate) key_panels: Vec<Panel>,
    /// Columns are the head's values, the reduction runs over tokens.
    pub(crate) value_panels: Vec<Panel>,
    keys: Words,
    values: Words,
}

impl KeyValues {
    /// Packs `keys` and `values`, both `[tokens, heads · head_size]`.
    ///
    /// # Panics
    /// Their shapes differ, hold no token, or are not made of `heads` heads.
    pub fn new(isa: Isa, precision: Precision, keys: Matrix<'_>, values: Matrix<'_>, heads: usize) -> KeyValues {
        assert_eq!((keys.rows, keys.cols), (values.rows, values.cols), "keys and values");
        assert!(keys.rows > 0 && heads > 0 && keys.cols.is_multiple_of(heads), "{} values in {heads} heads", keys.cols);
        let (tokens, head_size) = (keys.rows, keys.cols / heads);
        let (key_panels, value_panels) = (panels(tokens, lanes(isa)), panels(head_size, lanes(isa)));
        let (keys_from, values_from) = (keys.source(), values.source());
        let shape =
            |depth: usize, columns: usize| depth.div_ceil(per_word(precision)) * columns.next_multiple_of(lanes(isa));
        let (key_words, value_words) = (shape(head_size, tokens), shape(tokens, head_size));
        let mut keys = Words::zeroed(heads * key_words);
        let mut values = Words::zeroed(heads * value_words);
        let heads_of_keys = keys.as_mut_slice().par_chunks_exact_mut(key_words.max(1));
        let heads_of_values = values.as_mut_slice().par_chunks_exact_mut(value_words.max(1));
        heads_of_keys.zip(heads_of_values).enumerate().for_each(|(head, (to_keys, to_values))| {
            let pack = Pack { tokens, first: head * head_size, head_size, precision, lanes: lanes(isa) };
            dispatch(isa, PackKeys { pack: &pack, from: keys_from, panels: &key_panels, to: to_keys });
            dispatch(isa, PackValues { pack: &pack, from: values_from, panels: &value_panels, to: to_values });
        });
        KeyValues { isa, precision, heads, head_size, tokens, key_panels, value_panels, keys, values }
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        4 * (self.keys.len() + self.values.len())
    }

    /// Words of the reduction over a head's values.
    pub(crate) fn key_depth(&self) -> usize {
        self.head_size.div_ceil(per_word(self.precision))
    }

    /// Words of the reduction over tokens.
    pub(crate) fn value_depth(&self) -> usize {
        self.tokens.div_ceil(per_word(self.precision))
    }

    /// The words of one head's panel of keys.
    pub(crate) fn key_words(&self, head: usize, panel: Panel) -> *const f32 {
        let at = head * (self.keys.len() / self.heads) + panel.column * self.key_depth();
        // SAFETY: panels of a head follow each other, `key_depth` words a column.
        unsafe { self.keys.as_ptr().add(at).cast() }
    }

    /// The words of one head's panel of values, from word `word` of the reduction on.
    pub(crate) fn value_words(&self, head: usize, panel: Panel, word: usize) -> *const f32 {
        let width = panel.vectors * lanes(self.isa);
        let at = head * (self.values.len() / self.heads) + panel.column * self.value_depth() + word * width;
        // SAFETY: panels of a head follow each other, `value_depth` words a column; `word` is less.
        unsafe { self.values.as_ptr().add(at).cast() }
    }
}

/// One head of a sequence.
struct Pack {
    tokens: usize,
    /// The head's first column.
    first: usize,
    head_size: usize,
    precision: Precision,
    lanes: usize,
}

impl Pack {
    /// Words of a converted row.
    fn row_words(&self) -> usize {
        self.head_size.div_ceil(per_word(self.precision))
    }

    /// The head's part of row `token` as words; zeros past the last token.
    ///
    /// # Safety
    /// `from` has the token's row, `to` room for a row's words.
    #[inline(always)]
    unsafe fn row<A: Arch>(&self, from: Source, token: usize, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe {
            if token < self.tokens {
                convert_row::<A>(from.row(token).add(self.first), self.head_size, self.precision, to);
            } else {
                to.write_bytes(0, self.row_words());
            }
        }
    }
}

struct PackKeys<'a> {
    pack: &'a Pack,
    from: Source,
    panels: &'a [Panel],
    to: &'a mut [u32],
}

impl Kernel for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let depth = self.pack.row_words();
        let mut row = vec![0_u32; depth];
        for panel in self.panels {
            let width = panel.vectors * self.pack.lanes;
            let to = &mut self.to[panel.column * depth..][..width * depth];
            for column in 0..width.min(self.pack.tokens - panel.column) {
                // SAFETY: the column is a token; the row has its words.
                unsafe { self.pack.row::<A>(self.from, panel.column + column, row.as_mut_ptr()) };
                for (&word, slot) in row.iter().zip(to[column..].iter_mut().step_by(width)) {
                    *slot = word;
                }
            }
        }
    }
}

struct PackValues<'a> {
    pack: &'a Pack,
    from: Source,
    panels: &'a [Panel],
    to: &'a mut [u32],
}

impl Kernel for PackValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let per_word = per_word(self.pack.precision);
        let (size, row_words) = (self.pack.head_size, self.pack.row_words());
        let depth = self.pack.tokens.div_ceil(per_word);
        let mut rows = Scratch::words(2 * row_words);
        let rows = rows.as_mut_ptr();
        for word in 0..depth {
            // SAFETY: room for two rows, of which bf16 takes the tokens that share a word.
            unsafe {
                for i in 0..per_word {
                    self.pack.row::<A>(self.from, word * per_word + i, rows.add(i * row_words));
                }
            }
            for panel in self.panels {
                let width = panel.vectors * self.pack.lanes;
                let to = &mut self.to[panel.column * depth + word * width..][..width.min(size - panel.column)];
                for (column, slot) in (panel.column..).zip(to) {
                    // SAFETY: `column` is less than the values of a row.
                    *slot = unsafe {
                        match self.pack.precision {
                            Precision::F32 => rows.add(column).read(),
                            Precision::Bf16 => {
                                let low = rows.cast::<u16>().add(column).read();
                                let high = rows.add(row_words).cast::<u16>().add(column).read();
                                u32::from(high) << 16 | u32::from(low)
                            }
                        }
                    };
                }
            }
        }
    }
}
