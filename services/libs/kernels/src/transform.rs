//! The transforms of Winograd convolution, and how a 1-D transform is applied both ways.
//!
//! A tile of `M × M` outputs reads a patch of `P × P` pixels. Patch and weights are transformed to `P × P` values each, these are
//! multiplied and summed over the channels, and the sums are transformed back (Lavin and Gray, "Fast Algorithms for Convolutional
//! Neural Networks", 2015; Winograd, "Arithmetic Complexity of Computations", 1980).

use crate::simd::Vector;

/// A 3-tap convolution of `P` neighbours to `M` outputs by `P` products. The patch starts one pixel before the tile.
pub(crate) trait Transform<const P: usize, const M: usize>: 'static {
    /// Pixels from one tile to the next.
    const STEP: usize;

    /// The factors that a patch becomes.
    fn patch<V: Vector>(pixels: [V; P]) -> [V; P];
    /// The factors that the weights become.
    fn weights<V: Vector>(taps: [V; 3]) -> [V; P];
    /// The outputs from the products. Unless the tile is `whole`, its last output lies outside of the picture, and is arbitrary.
    fn outputs<V: Vector>(products: [V; P], whole: bool) -> [V; M];
}

/// F(2, 3), from the points 0, 1, -1 and ∞: additions and one halving, mild enough for factors in bf16.
pub(crate) struct Two;

/// F(4, 3), from the points 0, ±5/8, ±3/2 and ∞: a quarter of the multiplications, for two bits that f32 can spare. The usual
/// points ±1 and ±2 have twice the error.
pub(crate) struct Four;

/// A pair of outputs over an image in which every pixel stands twice. `w0·a + (w1 + w2)·b` and `(w0 + w1)·b + w2·c` over the
/// neighbours `a, b, c` share the product `(w0 + w1 + w2)·b` and are corrected by differences of neighbours.
pub(crate) struct Doubled;

impl Transform<4, 2> for Two {
    const STEP: usize = 2;

    #[inline(always)]
    fn patch<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
        [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
    }

    #[inline(always)]
    fn weights<V: Vector>([a, b, c]: [V; 3]) -> [V; 4] {
        let (half, ends) = (V::splat(0.5), a.add(c));
        [a, ends.add(b).mul(half), ends.sub(b).mul(half), c]
    }

    #[inline(always)]
    fn outputs<V: Vector>([a, b, c, d]: [V; 4], _whole: bool) -> [V; 2] {
        [a.add(b).add(c), b.sub(c).sub(d)]
    }
}

/// The points of [`Four`] and their squares, exact in f32 like all that is made of them without a division.
const NEAR: f32 = 0.625;
const FAR: f32 = 1.5;
const NEAR_2: f32 = NEAR * NEAR;
const FAR_2: f32 = FAR * FAR;

impl Transform<6, 4> for Four {
    const STEP: usize = 4;

    // The polynomials that vanish at all points but one; a point and its opposite share their even and odd parts.
    #[inline(always)]
    fn patch<V: Vector>([a, b, c, d, e, f]: [V; 6]) -> [V; 6] {
        let (product, sum) = (V::splat(NEAR_2 * FAR_2), V::splat(-(NEAR_2 + FAR_2)));
        let (near_even, near_odd) = (c.mul_add(V::splat(-FAR_2), e), b.mul_add(V::splat(-FAR_2), d));
        let (far_even, far_odd) = (c.mul_add(V::splat(-NEAR_2), e), b.mul_add(V::splat(-NEAR_2), d));
        [
            a.mul_add(product, c.mul_add(sum, e)),
            near_odd.mul_add(V::splat(NEAR), near_even),
            near_odd.mul_add(V::splat(-NEAR), near_even),
            far_odd.mul_add(V::splat(FAR), far_even),
            far_odd.mul_add(V::splat(-FAR), far_even),
            b.mul_add(product, d.mul_add(sum, f)),
        ]
    }

    // The taps' polynomial at the points, over the product of the distances to the other points.
    #[inline(always)]
    fn weights<V: Vector>([a, b, c]: [V; 3]) -> [V; 6] {
        const NEAR_SCALE: f32 = 1.0 / (2.0 * NEAR_2 * (NEAR_2 - FAR_2));
        const FAR_SCALE: f32 = 1.0 / (2.0 * FAR_2 * (FAR_2 - NEAR_2));
        let (near_even, near_odd) = (c.mul_add(V::splat(NEAR_2), a), b.mul(V::splat(NEAR)));
        let (far_even, far_odd) = (c.mul_add(V::splat(FAR_2), a), b.mul(V::splat(FAR)));
        [
            a.mul(V::splat(1.0 / (NEAR_2 * FAR_2))),
            near_even.add(near_odd).mul(V::splat(NEAR_SCALE)),
            near_even.sub(near_odd).mul(V::splat(NEAR_SCALE)),
            far_even.add(far_odd).mul(V::splat(FAR_SCALE)),
            far_even.sub(far_odd).mul(V::splat(FAR_SCALE)),
            c,
        ]
    }

    // The powers of the points.
    #[inline(always)]
    fn outputs<V: Vector>([a, b, c, d, e, f]: [V; 6], _whole: bool) -> [V; 4] {
        let (near, near_odd) = (b.add(c), b.sub(c));
        let (far, far_odd) = (d.add(e), d.sub(e));
        [
            a.add(near).add(far),
            far_odd.mul_add(V::splat(FAR), near_odd.mul(V::splat(NEAR))),
            far.mul_add(V::splat(FAR_2), near.mul(V::splat(NEAR_2))),
            far_odd.mul_add(V::splat(FAR * FAR_2), near_odd.mul_add(V::splat(NEAR * NEAR_2), f)),
        ]
    }
}

impl Transform<3, 2> for Doubled {
    const STEP: usize = 1;

    #[inline(always)]
    fn patch<V: Vector>([a, b, c]: [V; 3]) -> [V; 3] {
        [a.sub(b), b, c.sub(b)]
    }

    #[inline(always)]
    fn weights<V: Vector>([a, b, c]: [V; 3]) -> [V; 3] {
        [a, a.add(c).add(b), c]
    }

    // Where the second output is cut off, the first sees zero in place of the pixel's second copy. There is no neighbour
    // either, so the third product is -w2 · b: just what has to go.
    #[inline(always)]
    fn outputs<V: Vector>([a, b, c]: [V; 3], whole: bool) -> [V; 2] {
        let first = a.add(b);
        [if whole { first } else { first.add(c) }, b.add(c)]
    }
}

/// Transforms a square of `$a × $a` registers both ways: the columns by `$line` to `$b` each, then the rows; what follows the line in
/// each case is handed to it. A macro, because a closure
/// that is not inlined would be compiled without the instruction set.
macro_rules! both_ways {
    ($line:expr $(, $down:expr, $across:expr)?; $a:expr => $b:expr, |$i:ident, $j:ident| $from:expr) => {{
        let mut columns = [[A::V::splat(0.0); $b]; $a];
        for ($j, to) in columns.iter_mut().enumerate() {
            let mut column = [A::V::splat(0.0); $a];
            for ($i, value) in column.iter_mut().enumerate() {
                *value = $from;
            }
            *to = $line(column $(, $down)?);
        }
        let mut square = [[A::V::splat(0.0); $b]; $b];
        for (i, to) in square.iter_mut().enumerate() {
            let mut row = [A::V::splat(0.0); $a];
            for (value, column) in row.iter_mut().zip(&columns) {
                *value = column[i];
            }
            *to = $line(row $(, $across)?);
        }
        square
    }};
}
pub(crate) use both_ways;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::simd::{Arch, Kernel, dispatch};

    /// One line of a transform, by the values of its first lane.
    struct Line<T, const P: usize, const M: usize>(std::marker::PhantomData<T>, [f32; P], [f32; 3]);

    impl<T: Transform<P, M>, const P: usize, const M: usize> Kernel for Line<T, P, M> {
        type Output = [f32; M];

        #[inline(always)]
        fn run<A: Arch>(self) -> [f32; M] {
            let (mut products, weights) = (T::patch(self.1.map(A::V::splat)), T::weights(self.2.map(A::V::splat)));
            products.iter_mut().zip(weights).for_each(|(product, weight)| *product = product.mul(weight));
            T::outputs(products, true).map(|value| value.sum() / A::V::LANES as f32)
        }
    }

    /// Compares the transform with the taps slid over `pixels`, each standing `each` times.
    fn check<T: Transform<P, M>, const P: usize, const M: usize>(each: usize) {
        for seed in 0..8 {
            let value = |i: usize| ((seed * 31 + i * 17) % 23) as f32 - 11.0;
            let (pixels, taps) = (std::array::from_fn(value), std::array::from_fn(|i| value(i + 9)));
            for isa in Isa::available() {
                let found: [f32; M] = dispatch(isa, Line::<T, P, M>(std::marker::PhantomData, pixels, taps));
                for (i, found) in found.into_iter().enumerate() {
                    let expected: f32 = (0..3).map(|tap| taps[tap] * pixels[(i + tap).div_ceil(each)]).sum();
                    assert!((found - expected).abs() < 1e-3, "{isa}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn each_transform_is_a_convolution() {
        check::<Two, 4, 2>(1);
        check::<Four, 6, 4>(1);
        check::<Doubled, 3, 2>(2);
    }
}
