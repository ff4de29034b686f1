//! Group normalisation of a picture that lies in horizontal bands: the statistics of all of them, then any rows by these.
//!
//! Sums are of the same runs of pixels as in [`group_norm`](super::group_norm()), whatever bands they lie in: the same bits.

use super::{Gather, GroupNorm, Part, RUN, Write, scale_and_shift};
use crate::Image;
use crate::isa::Isa;
use crate::matrix::{MatrixMut, Values};
use crate::simd::dispatch;
use rayon::prelude::*;

/// A factor and a summand for each channel, which normalise one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupScales(Vec<f32>);

/// What normalises the picture that `bands` are, top to bottom; `norm.silu` changes nothing in it.
///
/// # Panics
/// There are no pixels, the bands are not of one picture and precision, or its channels cannot be divided into the groups.
pub fn group_scales(isa: Isa, bands: &[Image<'_>], norm: &GroupNorm<'_>) -> GroupScales {
    let (channels, parts) = parts(bands);
    norm.check(channels);
    // Pixels above each band, and all.
    let mut starts = vec![0];
    starts.extend(parts.iter().scan(0, |above, (_, pixels)| {
        *above += pixels;
        Some(*above)
    }));
    let pixels = starts[parts.len()];
    assert!(pixels > 0, "a picture without pixels");
    let about = parts.iter().find(|(_, pixels)| *pixels > 0).map_or(parts[0].0, |(part, _)| *part);
    let sums: Vec<Vec<f32>> = (0..pixels.div_ceil(RUN))
        .into_par_iter()
        .map(|run| {
            let mut sums = vec![0.0; 2 * channels];
            let (mut next, end) = (run * RUN, pixels.min((run + 1) * RUN));
            let mut band = starts.partition_point(|start| *start <= next) - 1;
            while next < end {
                let last = end.min(starts[band + 1]);
                let (part, rows) = (parts[band].0, next - starts[band]..last - starts[band]);
                if !rows.is_empty() {
                    dispatch(isa, Gather { part, about: (about.source, 0), rows, sums: &mut sums });
                }
                (next, band) = (last, band + 1);
            }
            sums
        })
        .collect();
    GroupScales(scale_and_shift(norm, &[about], &sums, 0, pixels))
}

/// Writes the rows of `pieces`, which are of one picture, one under the other and each normalised by `scales`; then SiLU if `silu`.
///
/// `out` is `[pixels of all pieces, channels]`.
///
/// # Panics
/// Shapes do not fit each other.
pub fn group_norm_rows(isa: Isa, pieces: &[Image<'_>], scales: &GroupScales, silu: bool, out: &mut MatrixMut<'_>) {
    let (channels, parts) = parts(pieces);
    let scale = &scales.0[..];
    assert_eq!(2 * channels, scale.len(), "scales of as many channels");
    assert_eq!((out.rows, out.cols), (parts.iter().map(|part| part.1).sum(), channels), "output shape");
    let target = out.target();
    let (mut above, mut tasks) = (0, Vec::new());
    for (part, pixels) in parts {
        tasks.extend((0..pixels).step_by(RUN).map(|first| (part, first..pixels.min(first + RUN), above + first)));
        above += pixels;
    }
    tasks
        .into_par_iter()
        .for_each(|(part, rows, to)| dispatch(isa, Write { part, rows, to, scale, silu, target: &target }));
}

/// How many channels there are, and each image as all of them, with its pixels.
fn parts(images: &[Image<'_>]) -> (usize, Vec<(Part, usize)>) {
    let kind = |image: &Image<'_>| (image.width, image.pixels.cols, matches!(image.pixels.values, Values::F32(_)));
    let first = images.first().map(kind);
    let fits = |image: &Image<'_>| image.size() == [1, image.height, image.width, 0, 0] && Some(kind(image)) == first;
    assert!(first.is_some() && images.iter().all(fits), "images of one picture");
    let part = |image: &Image<'_>| Part { source: image.pixels.source(), first: 0, count: image.pixels.cols };
    (images[0].pixels.cols, images.iter().map(|image| (part(image), image.pixels.rows)).collect())
}
