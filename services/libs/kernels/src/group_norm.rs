//! Group normalisation over channels-last images, with SiLU: one light pass for the statistics, one that writes.
//!
//! Wu and He, "Group Normalization" (2018). Each channel's sum and sum of squares are gathered in f32 over a fixed run of
//! pixels, about the channel's first value in the picture so that a large mean costs no digits, and combined in f64 in the order
//! of the runs: the same bits on any number of threads.

mod bands;

use crate::Image;
use crate::isa::Isa;
use crate::math;
use crate::matrix::MatrixMut;
use crate::rows::{RowsMutPtr, RowsPtr, Source, Target};
use crate::simd::{Arch, Kernel, Vector, dispatch};
use crate::storage::{Storage, load, store};
use rayon::prelude::*;
use std::ops::Range;

pub use bands::{GroupScales, group_norm_rows, group_scales};

/// Pixels whose sums are kept in f32: 64 of them lose no more than three of 24 bits.
const RUN: usize = 64;

/// The parameters of a group normalisation.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Groups that the channels are divided into.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// One factor a channel.
    pub weight: &'a [f32],
    /// One summand a channel.
    pub bias: &'a [f32],
    /// Whether SiLU follows.
    pub silu: bool,
}

/// `out = (image - mean) / √(variance + eps) · weight + bias`, mean and variance those of a group of channels of a picture; then
/// SiLU if asked for. Two images are normalised as one whose channels are theirs, one after the other.
///
/// `out` is `[batch · height · width, channels]`.
///
/// # Panics
/// Shapes do not fit each other, or channels cannot be divided into the groups.
pub fn group_norm(isa: Isa, images: &[Image<'_>], norm: &GroupNorm<'_>, out: &mut MatrixMut<'_>) {
    let channels: usize = images.iter().map(|image| image.pixels.cols).sum();
    norm.check(channels);
    let Some(&Image { batch, height, width, .. }) = images.first() else { return };
    assert!(images.iter().all(|image| image.size() == [batch, height, width, 0, 0]), "image sizes");
    let pixels = height * width;
    assert_eq!((out.rows, out.cols), (batch * pixels, channels), "output shape");
    if pixels == 0 || batch == 0 {
        return;
    }
    let target = out.target();
    let parts = parts(images);
    let runs = pixels.div_ceil(RUN);
    let rows =
        |picture: usize, run: usize| picture * pixels + run * RUN..picture * pixels + pixels.min((run + 1) * RUN);

    let tasks = (0..batch * runs).into_par_iter();
    let sums: Vec<Vec<f32>> = tasks
        .map(|task| {
            let mut sums = vec![0.0; 2 * channels];
            let (first, rows) = (task / runs * pixels, rows(task / runs, task % runs));
            for part in &parts {
                let to = &mut sums[2 * part.first..][..2 * part.count];
                let about = (part.source, first);
                dispatch(isa, Gather { part: *part, about, rows: rows.clone(), sums: to });
            }
            sums
        })
        .collect();
    let scales: Vec<Vec<f32>> = (0..batch)
        .into_par_iter()
        .map(|picture| scale_and_shift(norm, &parts, &sums[picture * runs..][..runs], picture * pixels, pixels))
        .collect();
    (0..batch * runs).into_par_iter().for_each(|task| {
        for part in &parts {
            let (scale, rows) = (&scales[task / runs][..], rows(task / runs, task % runs));
            let to = rows.start;
            dispatch(isa, Write { part: *part, rows, to, scale, silu: norm.silu, target: &target });
        }
    });
}

impl GroupNorm<'_> {
    fn check(&self, channels: usize) {
        let groups = self.groups;
        assert!(groups > 0 && channels.is_multiple_of(groups), "{channels} channels in {groups} groups");
        assert_eq!((self.weight.len(), self.bias.len()), (channels, channels), "weight and bias");
    }
}

/// One image's share of the channels.
#[derive(Clone, Copy)]
struct Part {
    source: Source,
    /// Its first channel among all.
    first: usize,
    count: usize,
}

fn parts(images: &[Image<'_>]) -> Vec<Part> {
    let mut first = 0;
    let part = |image: &Image<'_>| {
        let part = Part { source: image.pixels.source(), first, count: image.pixels.cols };
        first += part.count;
        part
    };
    images.iter().map(part).collect()
}

/// From the sums of all runs of a picture: for every channel the factor, then for every channel the summand, which normalise it.
fn scale_and_shift(norm: &GroupNorm<'_>, parts: &[Part], runs: &[Vec<f32>], first: usize, pixels: usize) -> Vec<f32> {
    let channels = norm.weight.len();
    let size = channels / norm.groups;
    // Sum and sum of squares of each channel about zero, from those about the channel's first value.
    let moments = parts.iter().flat_map(|part| {
        (0..part.count).map(move |channel| {
            let column = |offset: usize| runs.iter().map(|run| f64::from(run[2 * part.first + offset])).sum::<f64>();
            // SAFETY: every picture has a first pixel with every channel.
            let about = f64::from(unsafe { part.source.get(first, channel) });
            (about, column(channel), column(part.count + channel))
        })
    });
    let moments: Vec<(f64, f64, f64)> = moments.collect();
    let mut scales = vec![0.0; 2 * channels];
    for group in 0..norm.groups {
        let members = group * size..(group + 1) * size;
        let (count, each) = ((pixels * size) as f64, pixels as f64);
        let mean = moments[members.clone()].iter().map(|&(about, sum, _)| each * about + sum).sum::<f64>() / count;
        // Σ (x - mean)² = Σ (x - about)² - 2 (mean - about) Σ (x - about) + pixels · (mean - about)²
        let square = |&(about, sum, squares): &(f64, f64, f64)| {
            let distance = mean - about;
            squares - 2.0 * distance * sum + each * distance * distance
        };
        let variance = (moments[members.clone()].iter().map(square).sum::<f64>() / count).max(0.0);
        let inverse = 1.0 / (variance + f64::from(norm.eps)).sqrt();
        for channel in members {
            let factor = inverse * f64::from(norm.weight[channel]);
            scales[channel] = factor as f32;
            scales[channels + channel] = (f64::from(norm.bias[channel]) - mean * factor) as f32;
        }
    }
    scales
}

/// Adds to the sums of a run: for every channel of a part Σ (x - first), then for every channel Σ (x - first)².
struct Gather<'a> {
    part: Part,
    /// The picture's first row and where it lies: about its values sums are taken.
    about: (Source, usize),
    rows: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        // SAFETY: the images have the rows.
        unsafe {
            match (self.about.0.row(self.about.1), self.part.source.row(self.rows.start)) {
                (RowsPtr::F32(about), RowsPtr::F32(from)) => self.gather::<A, f32>(about, from),
                (RowsPtr::Bf16(about), RowsPtr::Bf16(from)) => self.gather::<A, u16>(about, from),
                _ => {}
            }
        }
    }
}

impl Gather<'_> {
    /// # Safety
    /// `about` is a row of the image, `from` the first of the run.
    #[inline(always)]
    unsafe fn gather<A: Arch, S: Storage>(self, about: *const S, from: *const S) {
        let lanes = A::V::LANES;
        let (count, stride) = (self.part.count, self.part.source.stride);
        let (sums, squares) = self.sums.split_at_mut(count);
        for channel in (0..count).step_by(lanes) {
            let lanes = lanes.min(count - channel);
            // SAFETY: `channel + lanes ≤ count` in every row and both halves of the sums.
            unsafe {
                let about = load::<A, S>(about.add(channel), lanes);
                let mut sum = load::<A, f32>(sums.as_ptr().add(channel), lanes);
                let mut square = load::<A, f32>(squares.as_ptr().add(channel), lanes);
                for row in 0..self.rows.len() {
                    let value = load::<A, S>(from.add(row * stride + channel), lanes).sub(about);
                    sum = sum.add(value);
                    square = value.mul_add(value, square);
                }
                store::<A, f32>(sum, sums.as_mut_ptr().add(channel), lanes);
                store::<A, f32>(square, squares.as_mut_ptr().add(channel), lanes);
            }
        }
    }
}

/// The second pass over a run.
struct Write<'a> {
    part: Part,
    rows: Range<usize>,
    /// Where the first of the rows goes.
    to: usize,
    scale: &'a [f32],
    silu: bool,
    target: &'a Target,
}

impl Kernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self) {
        for (row, to) in self.rows.clone().zip(self.to..) {
            // SAFETY: image and output have the row; this task alone writes it.
            unsafe {
                match (self.part.source.row(row), self.target.row(to)) {
                    (RowsPtr::F32(from), RowsMutPtr::F32(to)) => self.write::<A, f32, f32>(from, to),
                    (RowsPtr::F32(from), RowsMutPtr::Bf16(to)) => self.write::<A, f32, u16>(from, to),
                    (RowsPtr::Bf16(from), RowsMutPtr::F32(to)) => self.write::<A, u16, f32>(from, to),
                    (RowsPtr::Bf16(from), RowsMutPtr::Bf16(to)) => self.write::<A, u16, u16>(from, to),
                }
            }
        }
    }
}

impl Write<'_> {
    /// # Safety
    /// `from` is the part's row, `to` the whole output row.
    #[inline(always)]
    unsafe fn write<A: Arch, F: Storage, T: Storage>(&self, from: *const F, to: *mut T) {
        let (factors, summands) = self.scale.split_at(self.scale.len() / 2);
        for channel in (0..self.part.count).step_by(A::V::LANES) {
            let lanes = A::V::LANES.min(self.part.count - channel);
            let at = self.part.first + channel;
            // SAFETY: `channel + lanes` is inside the part, `at + lanes` inside all channels.
            unsafe {
                let factor = load::<A, f32>(factors.as_ptr().add(at), lanes);
                let summand = load::<A, f32>(summands.as_ptr().add(at), lanes);
                let value = load::<A, F>(from.add(channel), lanes).mul_add(factor, summand);
                store::<A, T>(if self.silu { math::silu(value) } else { value }, to.add(at), lanes);
            }
        }
    }
}
