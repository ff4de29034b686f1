//! 3×3 convolutions by Winograd's transforms: 16 products instead of 36 for a tile of 2 × 2 outputs, or 36 instead of 144 for 4 × 4.
//!
//! A task takes some tiles and some panels. The tiles' patches are transformed into scratch, one matrix of tiles by channels
//! for each product; the micro-kernel multiplies these by the panel's weights of the same product; the products are transformed
//! back and leave through the epilogue.

mod patches;
mod products;

use crate::conv::Image;
use crate::element::{Element, Precision};
use crate::epilogue::{Epilogue, Finish};
use crate::fill::Factors;
use crate::isa::Isa;
use crate::layout::Columns;
use crate::matrix::{MatrixMut, Values};
use crate::memory::{LINE_WORDS, Scratch};
use crate::pack::PackedWeights;
use crate::simd::{Arch, Vector, dispatch};
use crate::transform::{Doubled, Four, Transform, Two, both_ways};
use half::bf16;
use patches::{Patches, TransformTiles};
use products::{Multiply, Products};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Tiles of a task: with fewer, panels are read too often; more fill the cache. Even, as `pitch` below needs it.
const BLOCK_TILES: usize = 128;
/// The least a task has when there are too few for all threads.
const FEWEST_TILES: usize = 64;
/// Tasks a thread: enough to even out the last ones.
const TASKS_A_THREAD: usize = 4;

/// How a 3×3 convolution is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiles {
    /// 2 × 2 outputs by 16 products of each channel, in either precision. Weights take 16/9 of the memory that they came in.
    Two,
    /// 4 × 4 outputs by 36 products, in f32: bf16 would lose too much. Weights take four times the memory.
    Four,
    /// 2 × 2 outputs by 9 products over an image in which every pixel stands twice both ways; the enlarged image may lack its last
    /// row or column.
    Doubled,
}

impl Tiles {
    /// Outputs that a pixel becomes, in each direction.
    fn enlargement(self) -> usize {
        match self {
            Tiles::Two | Tiles::Four => 1,
            Tiles::Doubled => 2,
        }
    }
}

/// Weights of a 3×3 convolution, transformed and packed.
pub struct WinogradWeights {
    /// The factors take the place of taps.
    packed: PackedWeights,
    /// Channels of each image.
    channels: Vec<usize>,
    tiles: Tiles,
}

impl WinogradWeights {
    /// Transforms and packs `weights[n, channels, 3, 3]`, as PyTorch stores it. `channels` are those of each image that the input
    /// is made of: one, or two concatenated ones.
    ///
    /// # Panics
    /// `weights` are not that many values, or [`Tiles::Four`] is to be in bf16.
    pub fn new<'a>(
        isa: Isa,
        precision: Precision,
        weights: impl Into<Values<'a>>,
        n: usize,
        channels: &[usize],
        tiles: Tiles,
    ) -> Self {
        let weights = weights.into();
        let all: usize = channels.iter().sum();
        assert_eq!(weights.len(), n * all * 9, "weights of [{n}, {all}, 3, 3]");
        assert!((tiles, precision) != (Tiles::Four, Precision::Bf16), "4 × 4 outputs are for f32");
        let packed = match tiles {
            Tiles::Two => pack::<Two, 4, 2>(isa, precision, weights, n, channels),
            Tiles::Four => pack::<Four, 6, 4>(isa, precision, weights, n, channels),
            Tiles::Doubled => pack::<Doubled, 3, 2>(isa, precision, weights, n, channels),
        };
        WinogradWeights { packed, channels: channels.to_vec(), tiles }
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// Columns of the result.
    pub fn output_columns(&self) -> usize {
        self.packed.output_columns()
    }

    /// The arithmetic they were packed for.
    pub fn precision(&self) -> Precision {
        self.packed.precision()
    }
}

fn pack<T: Transform<P, M>, const P: usize, const M: usize>(
    isa: Isa,
    precision: Precision,
    weights: Values<'_>,
    n: usize,
    channels: &[usize],
) -> PackedWeights {
    PackedWeights::pack(isa, precision, Columns::Plain, weights, n, channels, Transformed::<T, P, M>(PhantomData))
}

/// A channel's nine taps transformed both ways.
struct Transformed<T, const P: usize, const M: usize>(PhantomData<fn() -> T>);

impl<T, const P: usize, const M: usize> Clone for Transformed<T, P, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const P: usize, const M: usize> Copy for Transformed<T, P, M> {}

impl<T: Transform<P, M>, const P: usize, const M: usize> Factors for Transformed<T, P, M> {
    fn taps(self) -> usize {
        9
    }

    fn count(self) -> usize {
        P * P
    }

    #[inline(always)]
    unsafe fn make<A: Arch>(self, channels: usize, taps: *const f32, to: *mut f32) -> *const f32 {
        for channel in 0..channels {
            // SAFETY: a channel has nine taps and `P · P` factors, a register each.
            unsafe {
                let taps = taps.add(channel * 9 * A::V::LANES);
                let to = to.add(channel * P * P * A::V::LANES);
                let square =
                    both_ways!(T::weights::<A::V>; 3 => P, |i, j| A::V::load(taps.add((3 * i + j) * A::V::LANES)));
                for (i, factor) in square.as_flattened().iter().enumerate() {
                    factor.store(to.add(i * A::V::LANES));
                }
            }
        }
        to
    }
}

/// `out[batch · height · width, n] = epilogue(convolution of the images' channels, one after the other)`, with one pixel of zeros
/// around the images. `size` is the result's height and width: the images', or with [`Tiles::Doubled`] twice that or one less.
///
/// Bits depend on the picture, the weights and the instruction set alone, as with [`crate::conv2d()`], from which they differ: by
/// about 2 · 10⁻⁶ of the result in f32; in bf16, where the transformed factors are rounded once each, by 3 to 4 · 10⁻³. Images may be
/// of either precision.
///
/// # Panics
/// Shapes do not fit each other, or there are no images.
pub fn winograd(
    images: &[Image<'_>],
    weights: &WinogradWeights,
    size: [usize; 2],
    epilogue: &Epilogue<'_>,
    out: &mut MatrixMut<'_>,
) {
    let Image { batch, height, width, .. } = images[0];
    assert!(images.iter().all(|image| image.size() == images[0].size()), "image sizes");
    assert!(
        images.iter().map(|image| image.pixels.cols).eq(weights.channels.iter().copied()),
        "channels of each image"
    );
    let each = weights.tiles.enlargement();
    assert!(
        [height, width].iter().zip(size).all(|(from, to)| to.div_ceil(each) == *from),
        "an output of {size:?} over {height} × {width} pixels"
    );
    assert_eq!((out.rows, out.cols), (batch * size[0] * size[1], weights.output_columns()), "output shape");
    let finish = Finish::new(&weights.packed, epilogue, out.rows, out.target());
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    let layer = Layer { images, weights: &weights.packed, size, finish };
    match (weights.tiles, weights.precision()) {
        (Tiles::Two, Precision::F32) => layer.run::<Two, f32, 4, 2>(),
        (Tiles::Two, Precision::Bf16) => layer.run::<Two, bf16, 4, 2>(),
        (Tiles::Four, _) => layer.run::<Four, f32, 6, 4>(),
        (Tiles::Doubled, Precision::F32) => layer.run::<Doubled, f32, 3, 2>(),
        (Tiles::Doubled, Precision::Bf16) => layer.run::<Doubled, bf16, 3, 2>(),
    }
}

/// A convolution whose shapes have been checked.
struct Layer<'a> {
    images: &'a [Image<'a>],
    weights: &'a PackedWeights,
    /// Height and width of the output.
    size: [usize; 2],
    finish: Finish<'a>,
}

/// The tiles of all pictures, row by row.
#[derive(Clone, Copy)]
struct Grid {
    batch: usize,
    height: usize,
    width: usize,
}

impl Grid {
    fn len(self) -> usize {
        self.batch * self.height * self.width
    }

    /// Picture, row and column of a tile.
    #[inline(always)]
    fn at(self, tile: usize) -> [usize; 3] {
        [tile / self.width / self.height, tile / self.width % self.height, tile % self.width]
    }
}

impl Layer<'_> {
    /// Transforms and multiplies in tasks: each its own tiles with all panels or, when tiles are too few for that, first all tiles
    /// and then tiles by panels.
    fn run<T: Transform<P, M>, E: Element, const P: usize, const M: usize>(self) {
        let Layer { images, weights, size, finish } = self;
        let patches = Patches::new::<E>(images, T::STEP);
        let (isa, tiles) = (weights.isa, patches.grid.len());
        let products = Products::new(weights, finish, &patches, size);
        let wanted = TASKS_A_THREAD * rayon::current_num_threads();
        let block_tiles = if tiles >= wanted * BLOCK_TILES { BLOCK_TILES } else { FEWEST_TILES };
        let blocks = tiles.div_ceil(block_tiles);
        let block = |index: usize| index * block_tiles..tiles.min((index + 1) * block_tiles);
        // An odd number of lines from one factor's matrix to the next, so that a tile's factors spread over the first-level cache.
        let pitch = block_tiles * patches.stride + LINE_WORDS;
        let block_words = P * P * pitch;

        let transform = |tiles: Range<usize>, to: *mut u32| {
            let patches = &patches;
            dispatch(isa, TransformTiles::<T, E, P, M> { patches, tiles, to, pitch, types: PhantomData });
        };
        let multiply = |tiles: Range<usize>, panels: Range<usize>, from: *const u32| {
            let products = &products;
            dispatch(isa, Multiply::<T, E, P, M> { products, tiles, panels, from, pitch, types: PhantomData });
        };
        if blocks >= wanted {
            (0..blocks).into_par_iter().with_max_len(1).for_each(|index| {
                let mut scratch = Scratch::words(block_words);
                transform(block(index), scratch.as_mut_ptr());
                multiply(block(index), 0..weights.panels.len(), scratch.as_mut_ptr());
            });
            return;
        }
        // The same scratch, of all blocks, is filled by some tasks and then read by others.
        let mut scratch = Scratch::words(blocks * block_words);
        let start = Start(scratch.as_mut_ptr());
        let runs = block_tiles.div_ceil(RUN_TILES);
        (0..blocks * runs).into_par_iter().with_max_len(1).for_each(|task| {
            let (index, run) = (task / runs, task % runs);
            let whole = block(index);
            let first = whole.start + run * RUN_TILES;
            let tiles = first.min(whole.end)..(first + RUN_TILES).min(whole.end);
            // SAFETY: each block has its words, in which a tile's come `stride` after those of the tile before it.
            let to = unsafe { start.get().add(index * block_words + run * RUN_TILES * patches.stride) };
            transform(tiles, to);
        });
        let panels = weights.panels.len();
        let panels_each = panels.div_ceil(wanted.div_ceil(blocks).min(panels));
        let groups = panels.div_ceil(panels_each);
        (0..blocks * groups).into_par_iter().with_max_len(1).for_each(|task| {
            let (group, index) = (task / blocks, task % blocks);
            let panels = group * panels_each..panels.min((group + 1) * panels_each);
            // SAFETY: as above.
            multiply(block(index), panels, unsafe { start.get().add(index * block_words) });
        });
    }
}

/// Tiles of a task that only transforms.
const RUN_TILES: usize = 8;

/// The start of scratch that tasks fill side by side.
struct Start(*mut u32);

// SAFETY: each task writes its own tiles; they are read when all are written.
unsafe impl Sync for Start {}

impl Start {
    fn get(&self) -> *mut u32 {
        self.0
    }
}
