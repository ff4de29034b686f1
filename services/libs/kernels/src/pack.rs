//! Weights rearranged once, at load, into the order in which the micro-kernel reads them.
//!
//! A panel holds the weights of a few output columns (three registers wide, the last ones two): for every word of the
//! reduction the columns' words lie side by side on a cache line. The reduction is cut into [`Segment`]s, runs of
//! consecutive input values, each padded to whole words; segments are grouped into chunks that fit the second-level cache.

use crate::element::Precision;
use crate::fill::{Direct, Factors, Fill};
use crate::isa::Isa;
use crate::layout::{Columns, Panel, Segment, chunks, cut, lanes, panels_of, per_word};
use crate::matrix::Values;
use crate::memory::Words;
use crate::simd::dispatch;
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
        Self::pack(isa, precision, Columns::Plain, weights, n, &[k], Direct { taps: 1 })
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
        Self::pack(isa, precision, Columns::Gated, weights, n, &[k], Direct { taps: 1 })
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
        Self::pack(isa, precision, Columns::Plain, weights, n, channels, Direct { taps })
    }

    /// Packs `weights[n, channels, taps]`, each channel's taps made into factors first: segments run over the factors and, for
    /// each, over the images that have the channels.
    pub(crate) fn pack<F: Factors>(
        isa: Isa,
        precision: Precision,
        columns: Columns,
        weights: Values<'_>,
        n: usize,
        channels: &[usize],
        factors: F,
    ) -> Self {
        let lanes = lanes(isa);
        let per_word = per_word(precision);
        let panels = panels_of(columns, n, lanes);
        let images = channels.len();
        let sources = (0..factors.count())
            .flat_map(|factor| channels.iter().enumerate().map(move |(image, &c)| (factor * images + image, c)));
        let segments: Vec<Segment> = sources.flat_map(|(source, c)| cut(source, c, precision)).collect();
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
        jobs.into_par_iter().with_max_len(1).for_each(|(panel, words)| {
            dispatch(isa, Fill { precision, columns, weights, n, channels, factors, panel, words });
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
