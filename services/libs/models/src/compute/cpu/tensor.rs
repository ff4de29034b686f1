//! Channels-last activations, shared and cheap to clone.

use std::ops::Range;
use std::sync::Arc;

use darkroom_kernels::{Image, Matrix, MatrixMut, Precision, Values, ValuesMut, convert};
use rayon::prelude::*;

use super::Cpu;
use super::arena::Loan;
use crate::compute::{Epilogue, ModelError, Piece};

/// Images `[batch, height, width, channels]` or tokens `[batch, count, channels]`. The channels may lie in two parts.
#[derive(Clone)]
pub struct Tensor {
    batch: usize,
    grid: Grid,
    first: Part,
    second: Option<Part>,
}

/// How the rows of a picture are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// Pixels: height and width.
    Image(usize, usize),
    Tokens(usize),
}

impl Grid {
    /// Rows of channels.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Image(height, width) => height * width,
            Self::Tokens(count) => count,
        }
    }
}

#[derive(Clone)]
struct Part {
    loan: Arc<Loan>,
    /// Values of the loan before the part's own: a band's begin inside its image's.
    skipped: usize,
    channels: usize,
}

impl Part {
    fn values(&self) -> Values<'_> {
        self.loan.values().skip(self.skipped)
    }
}

impl Tensor {
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    pub(super) fn grid(&self) -> Grid {
        self.grid
    }

    pub(super) fn channels(&self) -> usize {
        self.parts().map(|part| part.channels).sum()
    }

    /// Rows of channels in the whole batch.
    pub(super) fn rows(&self) -> usize {
        self.batch * self.grid.rows()
    }

    /// Height and width of an image.
    pub(super) fn size(&self) -> Result<(usize, usize), ModelError> {
        match self.grid {
            Grid::Image(height, width) => Ok((height, width)),
            Grid::Tokens(_) => Err(ModelError::Compute("tokens have no height and width".into())),
        }
    }

    /// The same values on another grid of as many rows.
    pub(super) fn viewed(&self, grid: Grid) -> Self {
        Self { grid, ..self.clone() }
    }

    /// The channels of both, one after the other.
    pub(super) fn beside(&self, other: &Self) -> Result<Self, ModelError> {
        if self.second.is_some() || other.second.is_some() || self.rows() != other.rows() {
            return Err(ModelError::Compute("two images of one size can be concatenated".into()));
        }
        Ok(Self { second: Some(other.first.clone()), ..self.clone() })
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// The parts as images for the kernels; tokens are images one pixel wide.
    pub(super) fn images(&self) -> Vec<Image<'_>> {
        let (height, width) = match self.grid {
            Grid::Image(height, width) => (height, width),
            Grid::Tokens(count) => (count, 1),
        };
        self.parts().map(|part| Image::new(part.values(), [self.batch, height, width, part.channels])).collect()
    }

    /// The values of a tensor in one part, a row of channels each.
    pub(super) fn matrix(&self) -> Result<Matrix<'_>, ModelError> {
        match self.second {
            None => Ok(Matrix::new(self.first.values(), self.rows(), self.first.channels)),
            Some(_) => Err(ModelError::Compute("channels in two parts are not a matrix".into())),
        }
    }

    /// The values of a tensor in one part. More may follow, where it is a band of an image.
    pub(super) fn values(&self) -> Values<'_> {
        self.first.values()
    }

    /// The values of a tensor in one part, widened.
    pub(super) fn to_f32(&self) -> Vec<f32> {
        let len = self.rows() * self.first.channels;
        match self.values() {
            Values::F32(values) => values[..len].to_vec(),
            Values::Bf16(values) => values[..len].iter().map(|value| value.to_f32()).collect(),
        }
    }

    /// Some pictures of the batch, whose channels are in one part: the same memory.
    pub(super) fn pictures(&self, pictures: Range<usize>) -> Result<Self, ModelError> {
        if self.second.is_some() || pictures.is_empty() || pictures.end > self.batch {
            return Err(ModelError::Compute(format!("a batch of {} has no pictures {pictures:?}", self.batch)));
        }
        let Part { loan, skipped, channels } = self.first.clone();
        let skipped = skipped + pictures.start * self.grid.rows() * channels;
        Ok(Self { batch: pictures.len(), first: Part { loan, skipped, channels }, ..self.clone() })
    }

    /// Some rows of the only image of a batch: the same memory.
    pub(super) fn band(&self, rows: Range<usize>) -> Result<Self, ModelError> {
        let (height, width) = self.size()?;
        if self.batch != 1 || self.second.is_some() || rows.is_empty() || rows.end > height {
            return Err(ModelError::Compute(format!("{} images of {height} rows have no band {rows:?}", self.batch)));
        }
        let Part { loan, skipped, channels } = self.first.clone();
        let skipped = skipped + rows.start * width * channels;
        Ok(Self { grid: Grid::Image(rows.len(), width), first: Part { loan, skipped, channels }, ..self.clone() })
    }
}

impl Cpu {
    /// The precision in which the result of a product is kept.
    pub(super) fn kept(&self, epilogue: &Epilogue<'_, Tensor>) -> Precision {
        if epilogue.rounded { self.precision } else { Precision::F32 }
    }

    /// A new tensor of one part, whose values `fill` writes.
    pub(super) fn make(
        &self,
        batch: usize,
        grid: Grid,
        channels: usize,
        precision: Precision,
        fill: impl FnOnce(&mut MatrixMut<'_>),
    ) -> Tensor {
        self.lend(batch, grid, channels, precision, |values| {
            fill(&mut MatrixMut::new(values, batch * grid.rows(), channels));
        })
    }

    /// As [`Cpu::make`], in f32 and from a plain slice.
    pub(super) fn make_f32(&self, batch: usize, grid: Grid, channels: usize, fill: impl FnOnce(&mut [f32])) -> Tensor {
        self.lend(batch, grid, channels, Precision::F32, |values| {
            if let ValuesMut::F32(values) = values {
                fill(values);
            }
        })
    }

    fn lend(
        &self,
        batch: usize,
        grid: Grid,
        channels: usize,
        precision: Precision,
        fill: impl FnOnce(ValuesMut<'_>),
    ) -> Tensor {
        let mut values = self.arena.take(batch * grid.rows() * channels, precision);
        fill(values.values_mut());
        Tensor { batch, grid, first: Part { loan: Arc::new(values), skipped: 0, channels }, second: None }
    }

    /// The tensor with its channels in one part; where they were in two, in the precision of products.
    pub(super) fn joined(&self, x: &Tensor) -> Tensor {
        if x.second.is_none() {
            return x.clone();
        }
        let (rows, channels) = (x.rows(), x.channels());
        let mut values = self.arena.take(rows * channels, self.precision);
        let mut before = 0;
        for part in x.parts() {
            let from = Matrix::new(part.values(), rows, part.channels);
            let to = values.values_mut().skip(before);
            convert(self.isa, from, &mut MatrixMut::strided(to, rows, part.channels, channels));
            before += part.channels;
        }
        Tensor { first: Part { loan: Arc::new(values), skipped: 0, channels }, second: None, ..x.clone() }
    }

    /// See [`Backend::assemble`](crate::compute::Backend::assemble). In f32.
    pub(super) fn assembled(
        &self,
        pieces: &[Piece<'_, Tensor>],
        batch: usize,
        width: usize,
    ) -> Result<Tensor, ModelError> {
        let grid = pieces.first().map(|piece| piece.tokens.grid);
        let grid = grid.ok_or_else(|| ModelError::Compute("nothing is assembled of no pieces".into()))?;
        for Piece { picture, column, tokens } in pieces {
            let fits = tokens.grid == grid && picture + tokens.batch <= batch && column + tokens.channels() <= width;
            if !fits {
                return Err(ModelError::Compute("a piece lies outside of what it is a part of".into()));
            }
        }
        let pieces = pieces.iter().map(|piece| Ok((piece, piece.tokens.matrix()?)));
        let pieces = pieces.collect::<Result<Vec<_>, ModelError>>()?;
        Ok(self.lend(batch, grid, width, Precision::F32, |mut values| {
            if let ValuesMut::F32(values) = &mut values {
                // The one number that any other keeps its bits beside, zeros of both signs too.
                values.fill(-0.0);
            }
            for (Piece { picture, column, tokens }, from) in pieces {
                let first = picture * grid.rows() * width + column;
                let (rows, columns) = (tokens.rows(), tokens.channels());
                let to = match &mut values {
                    ValuesMut::F32(values) => ValuesMut::F32(&mut values[first..]),
                    ValuesMut::Bf16(values) => ValuesMut::Bf16(&mut values[first..]),
                };
                convert(self.isa, from, &mut MatrixMut::strided(to, rows, columns, width));
            }
        }))
    }

    /// Images one under the other, in the precision of the first.
    pub(super) fn stacked(&self, pieces: &[&Tensor]) -> Result<Tensor, ModelError> {
        let (grid, channels) = stacked_size(pieces)?;
        if let [whole] = pieces {
            return Ok((*whole).clone());
        }
        let precision = match pieces[0].values() {
            Values::F32(_) => Precision::F32,
            Values::Bf16(_) => Precision::Bf16,
        };
        let matrices = pieces.iter().map(|piece| piece.matrix()).collect::<Result<Vec<_>, _>>()?;
        Ok(self.lend(1, grid, channels, precision, |mut values| {
            for (from, piece) in matrices.into_iter().zip(pieces) {
                let (to, rest) = values.split_at(piece.rows() * channels);
                convert(self.isa, from, &mut MatrixMut::new(to, piece.rows(), channels));
                values = rest;
            }
        }))
    }
}

/// The grid and the channels of images one under the other: at least one, and bands of one picture.
pub(super) fn stacked_size(pieces: &[&Tensor]) -> Result<(Grid, usize), ModelError> {
    let sizes = pieces.iter().map(|piece| piece.size()).collect::<Result<Vec<_>, _>>()?;
    let like = |piece: &Tensor| (piece.channels(), matches!(piece.values(), Values::F32(_)));
    match (pieces, &sizes[..]) {
        ([first, ..], &[(_, width), ..])
            if sizes.iter().all(|size| size.1 == width)
                && pieces
                    .iter()
                    .all(|piece| (piece.batch, piece.second.is_none(), like(piece)) == (1, true, like(first))) =>
        {
            Ok((Grid::Image(sizes.iter().map(|size| size.0).sum(), width), first.channels()))
        }
        _ => Err(ModelError::Compute("bands of one picture can be put together".into())),
    }
}

/// `[batch, rows, cols]` → `[batch, cols, rows]`.
pub(super) fn transpose(from: &[f32], to: &mut [f32], batch: usize, rows: usize, cols: usize) {
    debug_assert_eq!((from.len(), to.len()), (batch * rows * cols, batch * rows * cols));
    let picture = (rows * cols).max(1);
    to.par_chunks_mut(rows.max(1)).enumerate().with_min_len(1 + 4096 / rows.max(1)).for_each(|(line, to)| {
        let (picture, column) = (&from[line / cols * picture..], line % cols);
        for (row, to) in to.iter_mut().enumerate() {
            *to = picture[row * cols + column];
        }
    });
}
