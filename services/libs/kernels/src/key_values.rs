//! Keys and values of an attention layer, packed once and then read by every panel of queries. The text's are packed when a request
//! is admitted and kept.
//!
//! Both are left operands (see [`crate::attention()`]): keys row by row, each the words of its head; values transposed, each row one
//! of the head's values over a block of keys, so that the rows of a block lie together.

use crate::buffer::Buffer;
use crate::convert::convert_row;
use crate::element::Precision;
use crate::isa::Isa;
use crate::layout::per_word;
use crate::matrix::Matrix;
use crate::memory::Scratch;
use crate::rows::Source;
use crate::simd::{Arch, Kernel, dispatch};
use rayon::prelude::*;

/// Words of keys in a block. In bf16 those are 128 keys: with a panel of queries their keys, values and weights fit the first-level
/// cache at a head size of 40.
pub(crate) const BLOCK_WORDS: usize = 64;
/// Keys and values are padded to whole tiles, and this is a multiple of every tile's height.
const TALLEST_TILE: usize = 8;

/// Keys and values of all heads of one sequence.
pub struct KeyValues {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) shape: Shape,
    memory: Buffer,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
    pub(crate) tokens: usize,
    /// Elements in a word.
    per_word: usize,
}

impl Shape {
    fn new(precision: Precision, tokens: usize, width: usize, heads: usize) -> Shape {
        assert!(
            tokens > 0 && heads > 0 && width.is_multiple_of(heads),
            "{tokens} tokens of {width} values in {heads} heads"
        );
        Shape { heads, head_size: width / heads, tokens, per_word: per_word(precision) }
    }

    /// Words of a key.
    pub(crate) fn depth(self) -> usize {
        self.head_size.div_ceil(self.per_word)
    }

    /// Tokens, and those that fill up the last tile: their keys and values are zero.
    pub(crate) fn padded_tokens(self) -> usize {
        self.tokens.next_multiple_of(TALLEST_TILE)
    }

    /// Rows of transposed values, and those that fill up the last tile.
    pub(crate) fn value_rows(self) -> usize {
        self.head_size.next_multiple_of(TALLEST_TILE)
    }

    /// Keys in a block; the last may have fewer.
    pub(crate) fn block_keys(self) -> usize {
        BLOCK_WORDS * self.per_word
    }

    fn key_words(self) -> usize {
        self.padded_tokens() * self.depth()
    }

    fn value_words(self) -> usize {
        self.padded_tokens() / self.per_word * self.value_rows()
    }

    fn words(self) -> usize {
        self.heads * (self.key_words() + self.value_words())
    }

    /// Words of keys in the block that starts at `key`.
    pub(crate) fn words_of_block(self, key: usize) -> usize {
        BLOCK_WORDS.min((self.padded_tokens() - key) / self.per_word)
    }
}

impl KeyValues {
    /// f32 values of a buffer that holds keys and values of `tokens` tokens.
    ///
    /// # Panics
    /// There is no token, or `width` is not made of `heads` heads.
    pub fn buffer_len(precision: Precision, tokens: usize, width: usize, heads: usize) -> usize {
        Shape::new(precision, tokens, width, heads).words()
    }

    /// Packs `keys` and `values`, both `[tokens, heads · head_size]`, into memory of its own.
    ///
    /// # Panics
    /// Their shapes differ, hold no token, or are not made of `heads` heads.
    pub fn new(isa: Isa, precision: Precision, keys: Matrix<'_>, values: Matrix<'_>, heads: usize) -> KeyValues {
        let len = KeyValues::buffer_len(precision, keys.rows, keys.cols, heads);
        KeyValues::new_in(Buffer::zeroed(len, Precision::F32), isa, precision, keys, values, heads)
    }

    /// As [`KeyValues::new`], into `memory` of [`KeyValues::buffer_len`] f32 values.
    ///
    /// # Panics
    /// As [`KeyValues::new`], and when the memory is too small.
    pub fn new_in(
        mut memory: Buffer,
        isa: Isa,
        precision: Precision,
        keys: Matrix<'_>,
        values: Matrix<'_>,
        heads: usize,
    ) -> KeyValues {
        assert_eq!((keys.rows, keys.cols), (values.rows, values.cols), "keys and values");
        let shape = Shape::new(precision, keys.rows, keys.cols, heads);
        let (keys, values) = (keys.source(), values.source());
        let (to_keys, to_values) = memory.words_mut()[..shape.words()].split_at_mut(heads * shape.key_words());
        let heads_of_keys = to_keys.par_chunks_exact_mut(shape.key_words().max(1));
        let heads_of_values = to_values.par_chunks_exact_mut(shape.value_words().max(1));
        heads_of_keys.zip(heads_of_values).enumerate().for_each(|(head, (to_keys, to_values))| {
            let column = head * shape.head_size;
            dispatch(isa, PackKeys { shape, precision, column, from: keys, to: to_keys });
            dispatch(isa, PackValues { shape, precision, column, from: values, to: to_values });
        });
        KeyValues { isa, precision, shape, memory }
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.memory.capacity()
    }

    /// Gives the memory back.
    pub fn into_buffer(self) -> Buffer {
        self.memory
    }

    /// The words of one head's keys, from `key` on.
    pub(crate) fn keys(&self, head: usize, key: usize) -> *const f32 {
        let words = &self.memory.words()[head * self.shape.key_words() + key * self.shape.depth()..];
        words.as_ptr().cast()
    }

    /// The rows of one head's values in the block that starts at `key`, [`Shape::words_of_block`] words each.
    pub(crate) fn values(&self, head: usize, key: usize) -> *const f32 {
        let before = self.shape.heads * self.shape.key_words() + head * self.shape.value_words();
        self.memory.words()[before + key / self.shape.per_word * self.shape.value_rows()..].as_ptr().cast()
    }
}

struct PackKeys<'a> {
    shape: Shape,
    precision: Precision,
    /// The head's first.
    column: usize,
    from: Source,
    to: &'a mut [u32],
}

impl Kernel for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let (tokens, padding) = self.to.split_at_mut(self.shape.tokens * self.shape.depth());
        for (token, to) in tokens.chunks_exact_mut(self.shape.depth()).enumerate() {
            // SAFETY: the matrix has the row with the head's columns, and `to` is a row's words.
            unsafe {
                let from = self.from.row(token).add(self.column);
                convert_row::<A>(from, self.shape.head_size, self.precision, to.as_mut_ptr());
            }
        }
        padding.fill(0);
    }
}

struct PackValues<'a> {
    shape: Shape,
    precision: Precision,
    /// The head's first.
    column: usize,
    from: Source,
    to: &'a mut [u32],
}

impl Kernel for PackValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        let shape = self.shape;
        let mut row = Scratch::words(shape.depth());
        let row = row.as_mut_ptr();
        let mut to = self.to;
        for first in (0..shape.padded_tokens()).step_by(shape.block_keys()) {
            let words = shape.words_of_block(first);
            let (block, rest) = std::mem::take(&mut to).split_at_mut(words * shape.value_rows());
            to = rest;
            if first + words * shape.per_word > shape.tokens || shape.value_rows() > shape.head_size {
                block.fill(0);
            }
            for token in first..shape.tokens.min(first + words * shape.per_word) {
                // SAFETY: the matrix has the row with the head's columns; the scratch has its words, the block the token's place in
                // each of `head_size` rows.
                unsafe {
                    convert_row::<A>(self.from.row(token).add(self.column), shape.head_size, self.precision, row);
                    let place = token - first;
                    match self.precision {
                        Precision::F32 => scatter(row, shape.head_size, block.as_mut_ptr().add(place), words),
                        Precision::Bf16 => {
                            let to = block.as_mut_ptr().cast::<u16>().add(place);
                            scatter(row.cast::<u16>(), shape.head_size, to, 2 * words);
                        }
                    }
                }
            }
        }
    }
}

/// Writes `count` neighbours `pitch` apart.
///
/// # Safety
/// They are readable and the places writable.
#[inline(always)]
unsafe fn scatter<T: Copy>(from: *const T, count: usize, to: *mut T, pitch: usize) {
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe { to.add(i * pitch).write(from.add(i).read()) };
    }
}
