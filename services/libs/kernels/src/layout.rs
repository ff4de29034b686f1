//! How packed weights are laid out: panels of columns, segments and chunks of the reduction.

use crate::element::{Element, Precision};
use crate::isa::{Isa, Level};
use half::bf16;
use std::ops::Range;

/// Words of the reduction that a panel keeps in the second-level cache: 48 columns of them are 96 KiB.
pub(crate) const CHUNK_WORDS: usize = 512;

/// A run of input values that are neighbours in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Which of the input's sources (a tap of a convolution, an image of a pair).
    pub(crate) source: usize,
    /// The first value inside the source.
    pub(crate) offset: usize,
    /// How many values.
    pub(crate) len: usize,
}

impl Segment {
    pub(crate) fn words(&self, per_word: usize) -> usize {
        self.len.div_ceil(per_word)
    }
}

/// A few output columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    /// The first column, counted over all panels.
    pub(crate) column: usize,
    /// Registers a row.
    pub(crate) vectors: usize,
}

/// What the columns of a panel stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Output columns in order.
    Plain,
    /// The first half of a panel's columns are values, the second half their gates: rows `j` and `n / 2 + j` of the weights meet in
    /// one tile, so that GEGLU is finished before anything is written.
    Gated,
}

impl Columns {
    /// The row of the weights behind a column of a panel, if any: the last panel may be wider than what is left.
    pub(crate) fn row(self, n: usize, panel: usize, width: usize, column: usize) -> Option<usize> {
        match self {
            Columns::Plain => Some(panel + column).filter(|&row| row < n),
            Columns::Gated => {
                let half = width / 2;
                let output = Some(panel / 2 + column % half).filter(|&output| output < n / 2);
                output.map(|output| output + column / half * (n / 2))
            }
        }
    }
}

/// Elements in a word.
pub(crate) fn per_word(precision: Precision) -> usize {
    match precision {
        Precision::F32 => f32::PER_WORD,
        Precision::Bf16 => bf16::PER_WORD,
    }
}

/// Lanes of the registers of `isa`.
pub(crate) fn lanes(isa: Isa) -> usize {
    match isa.level() {
        Level::Portable | Level::Avx2 => 8,
        Level::Avx512 | Level::Avx512Bf16 => 16,
    }
}

/// Cuts `len` values of a source into segments of at most one chunk.
pub(crate) fn cut(source: usize, len: usize, precision: Precision) -> Vec<Segment> {
    let most = CHUNK_WORDS * per_word(precision);
    (0..len).step_by(most).map(|offset| Segment { source, offset, len: most.min(len - offset) }).collect()
}

/// Groups segments so that a group has at most `CHUNK_WORDS` words, or one segment.
pub(crate) fn chunks(segments: &[Segment], per_word: usize) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut words = 0;
    for (index, segment) in segments.iter().enumerate() {
        let more = segment.words(per_word);
        if index > start && words + more > CHUNK_WORDS {
            chunks.push(start..index);
            start = index;
            words = 0;
        }
        words += more;
    }
    chunks.push(start..segments.len());
    chunks
}

/// The panels of a layer of `n` weight rows. Gated ones are two registers wide, one of values and one of their gates: of three, half
/// would be no whole register.
pub(crate) fn panels_of(columns: Columns, n: usize, lanes: usize) -> Vec<Panel> {
    match columns {
        Columns::Plain => panels(n, lanes),
        Columns::Gated => (0..(n / 2).div_ceil(lanes)).map(|i| Panel { column: 2 * i * lanes, vectors: 2 }).collect(),
    }
}

/// Panels of three registers, ending in one or two of two: only a layer of a single register has a panel of one, because
/// that leaves half of the multipliers idle.
pub(crate) fn panels(n: usize, lanes: usize) -> Vec<Panel> {
    let mut left = n.div_ceil(lanes);
    let mut column = 0;
    let mut panels = Vec::new();
    while left > 0 {
        let vectors = match left {
            1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
        panels.push(Panel { column, vectors });
        column += vectors * lanes;
        left -= vectors;
    }
    panels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_every_column_once_and_are_narrow_only_at_the_end() {
        for n in 1..400 {
            let panels = panels(n, 16);
            let mut column = 0;
            for panel in &panels {
                assert_eq!(panel.column, column);
                column += panel.vectors * 16;
            }
            assert!(column >= n && column < n + 16, "{n}: {column}");
            assert!(n <= 16 || panels.iter().all(|panel| panel.vectors > 1), "{n}");
        }
    }

    #[test]
    fn gated_panels_hold_whole_registers_of_values_and_of_gates() {
        for half in 1..100 {
            let n = 2 * half;
            let panels = panels_of(Columns::Gated, n, 16);
            let rows = |panel: &Panel| (0..32).filter_map(|c| Columns::Gated.row(n, panel.column, 32, c)).collect();
            let mut rows: Vec<usize> = panels.iter().flat_map(|panel| -> Vec<usize> { rows(panel) }).collect();
            rows.sort_unstable();
            assert!(rows.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn chunks_cover_all_segments_in_order() {
        let segments: Vec<Segment> = (0..9).flat_map(|tap| cut(tap, 700, Precision::Bf16)).collect();
        let chunks = chunks(&segments, 2);
        assert_eq!(chunks.first().unwrap().start, 0);
        assert_eq!(chunks.last().unwrap().end, segments.len());
        assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
    }

    #[test]
    fn gated_columns_pair_each_value_with_its_gate() {
        let rows: Vec<_> = (0..32).map(|column| Columns::Gated.row(40, 0, 32, column)).collect();
        assert_eq!(rows[..3], [Some(0), Some(1), Some(2)]);
        assert_eq!(rows[16..19], [Some(20), Some(21), Some(22)]);
        assert_eq!(Columns::Gated.row(40, 32, 32, 4), None);
    }
}
