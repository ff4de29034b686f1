//! Weights rearranged once, at load, into the order in which the micro-kernel reads them.
//!
//! A panel holds the weights of a few output columns (three registers wide, the last ones two): for every word of the
//! reduction the columns' words lie side by side on a cache line. The reduction is cut into [`Segment`]s, runs of
//! consecutive input values, each padded to whole words; segments are grouped into chunks that fit the second-level cache.

use crate::element::Precision;
use crate::isa::Isa;
use crate::layout::{Columns, Panel, Segment, chunks, cut, lanes, panels, per_word};
use crate::matrix::Values;
use crate::memory::Words;
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// The weights of a linear layer or a convolution, in panels.
pub struct PackedWeights {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) columns: Columns,
    /// Rows of the weights: output columns, twice as many when gated.
    pub(crate) n: usize,
    /// Values of the reduction.
    pub(crate) k: usize,
    pub(crate) segments: Vec<Segment>,
    /// Groups of segments.
    pub(crate) chunks: Vec<Range<usize>>,
    pub(crate) panels: Vec<Panel>,
    lanes: usize,
    words: Words,
}

impl PackedWeights {
    /// Packs `weights[n, k]` of a linear layer, row-major, as PyTorch stores it.
    ///
    /// # Panics
    /// `weights` are not `n · k` values.
    pub fn linear<'a>(isa: Isa, precision: Precision, weights: impl Into<Values<'a>>, n: usize, k: usize) -> Self {
        let weights = weights.into();
        assert_eq!(weights.len(), n * k, "weights of [{n}, {k}]");
        Self::pack(isa, precision, Columns::Plain, n, cut(0, k, precision), |row, segment, i| {
            weights.get(row * k + segment.offset + i)
        })
    }

    /// Packs `weights[n, k]` of a GEGLU projection: rows `0..n / 2` make the values, rows `n / 2..n` the gates. The layer has
    /// `n / 2` output columns.
    ///
    /// # Panics
    /// `weights` are not `n · k` values, or `n` is odd.
    pub fn geglu<'a>(isa: Isa, precision: Precision, weights: impl Into<Values<'a>>, n: usize, k: usize) -> Self {
        let weights = weights.into();
        assert_eq!(weights.len(), n * k, "weights of [{n}, {k}]");
        assert!(n.is_multiple_of(2), "{n} rows are not values and gates");
        Self::pack(isa, precision, Columns::Gated, n, cut(0, k, precision), |row, segment, i| {
            weights.get(row * k + segment.offset + i)
        })
    }

    /// Packs `weights[n, channels, kernel, kernel]` of a convolution, as PyTorch stores it. `channels` are those of each image
    /// that the input is made of: one, or two concatenated ones.
    ///
    /// # Panics
    /// `weights` are not that many values.
    pub fn conv<'a>(
        isa: Isa,
        precision: Precision,
        weights: impl Into<Values<'a>>,
        n: usize,
        channels: &[usize],
        kernel: usize,
    ) -> Self {
        let weights = weights.into();
        let (all, taps) = (channels.iter().sum::<usize>(), kernel * kernel);
        assert_eq!(weights.len(), n * all * taps, "weights of [{n}, {all}, {kernel}, {kernel}]");
        let before: Vec<usize> = channels.iter().scan(0, |sum, &c| Some(std::mem::replace(sum, *sum + c))).collect();
        let sources = (0..taps).flat_map(|tap| channels.iter().enumerate().map(move |(image, &c)| (tap, image, c)));
        let segments = sources.flat_map(|(tap, image, c)| cut(tap * channels.len() + image, c, precision)).collect();
        Self::pack(isa, precision, Columns::Plain, n, segments, |row, segment, i| {
            let (tap, image) = (segment.source / channels.len(), segment.source % channels.len());
            weights.get((row * all + before[image] + segment.offset + i) * taps + tap)
        })
    }

    /// Packs whatever `value(row, segment, index)` says.
    pub(crate) fn pack(
        isa: Isa,
        precision: Precision,
        columns: Columns,
        n: usize,
        segments: Vec<Segment>,
        value: impl Fn(usize, Segment, usize) -> f32 + Sync,
    ) -> Self {
        let lanes = lanes(isa);
        let per_word = per_word(precision);
        let panels = panels(n, lanes);
        let chunks = chunks(&segments, per_word);
        let depth: usize = segments.iter().map(|segment| segment.words(per_word)).sum();
        let total: usize = panels.iter().map(|panel| panel.vectors).sum();
        let k = segments.iter().map(|segment| segment.len).sum();
        let mut words = Words::zeroed(depth * total * lanes);

        let mut rest = words.as_mut_slice();
        let mut jobs = Vec::new();
        for &panel in &panels {
            let (mine, others) = rest.split_at_mut(depth * panel.vectors * lanes);
            jobs.push((panel, mine));
            rest = others;
        }
        jobs.into_par_iter().for_each(|(panel, words)| {
            let width = panel.vectors * lanes;
            let mut lines = words.chunks_exact_mut(width);
            for &segment in &segments {
                for (word, line) in (0..segment.words(per_word)).zip(&mut lines) {
                    for (column, slot) in line.iter_mut().enumerate() {
                        let Some(row) = columns.row(n, panel.column, width, column) else { continue };
                        let at = |i| if i < segment.len { value(row, segment, i) } else { 0.0 };
                        *slot = match precision {
                            Precision::F32 => at(word).to_bits(),
                            Precision::Bf16 => {
                                let [low, high] = [2 * word, 2 * word + 1].map(|i| bf16::from_f32(at(i)).to_bits());
                                u32::from(high) << 16 | u32::from(low)
                            }
                        };
                    }
                }
            }
        });
        PackedWeights { isa, precision, columns, n, k, segments, chunks, panels, lanes, words }
    }

    /// Columns of the result.
    pub fn output_columns(&self) -> usize {
        match self.columns {
            Columns::Plain => self.n,
            Columns::Gated => self.n / 2,
        }
    }

    /// Values of the reduction: columns of the input.
    pub fn input_columns(&self) -> usize {
        self.k
    }

    /// The arithmetic they were packed for.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.words.len() * 4
    }

    /// Words of the whole reduction.
    pub(crate) fn depth(&self) -> usize {
        let per_word = per_word(self.precision);
        self.segments.iter().map(|segment| segment.words(per_word)).sum()
    }

    /// The words of `panel` from the start of `segment` on.
    pub(crate) fn panel_words(&self, panel: Panel, segment: usize) -> *const u32 {
        let per_word = per_word(self.precision);
        let before: usize = self.segments[..segment].iter().map(|segment| segment.words(per_word)).sum();
        let at = panel.column * self.depth() + before * panel.vectors * self.lanes;
        assert!(at < self.words.len().max(1));
        // SAFETY: panels lie one after the other, `depth` words a column; the result is inside, as asserted.
        unsafe { self.words.as_ptr().add(at) }
    }
}
