//! The geometry of the shapes, for the renderer and for the judge's templates.

use std::f64::consts::{PI, TAU};

use super::{Land, SIDE, Shape};

/// Corners that stand for a curve.
const CURVE_CORNERS: usize = 72;

/// A closed polygon around a shape of radius 1 at the origin, x to the right and y downwards.
#[derive(Clone, Debug)]
pub struct Outline {
    corners: Vec<(f64, f64)>,
    /// Half the side of a square around the origin that holds all corners.
    reach: f64,
}

impl Outline {
    /// The outline of `shape`. The proportions are those of the training pictures. A ring's is that of the disc that it would be
    /// without its [`hole`](Self::hole).
    pub fn of(shape: Shape) -> Self {
        Self::around(match shape {
            Shape::Circle => disc(1.0),
            Shape::Square => {
                let half = 0.88;
                vec![(-half, -half), (half, -half), (half, half), (-half, half)]
            }
            Shape::Triangle => vec![(0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)],
            Shape::Star => (0..10)
                .map(|corner| {
                    let radius = if corner % 2 == 0 { 1.12 } else { 0.46 };
                    let angle = f64::from(corner) * PI / 5.0;
                    (radius * angle.sin(), 0.06 - radius * angle.cos())
                })
                .collect(),
            // The well-known heart curve x = 16 sin³t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, scaled to half-width 1
            // and moved to the middle of its height.
            Shape::Heart => angles(CURVE_CORNERS)
                .map(|t| {
                    let up = 13.0 * t.cos() - 5.0 * (2.0 * t).cos() - 2.0 * (3.0 * t).cos() - (4.0 * t).cos();
                    (t.sin().powi(3), -(up + 2.3) / 16.0)
                })
                .collect(),
            Shape::Ring => disc(1.05),
            Shape::Moon => crescent(),
            Shape::Diamond => vec![(0.0, -1.15), (0.78, 0.0), (0.0, 1.15), (-0.78, 0.0)],
            Shape::Arrow => mirrored(&[(0.0, -1.1), (1.0, -0.05), (0.4, -0.05), (0.4, 1.05)]),
            Shape::House => mirrored(&[(0.0, -1.1), (1.1, -0.2), (0.8, -0.2), (0.8, 0.95)]),
            Shape::Tree => {
                mirrored(&[(0.0, -1.2), (0.65, -0.35), (0.35, -0.35), (0.95, 0.55), (0.22, 0.55), (0.22, 1.1)])
            }
        })
    }

    /// The hole in a ring.
    pub fn hole(shape: Shape) -> Option<Self> {
        (shape == Shape::Ring).then(|| Self::around(disc(0.55)))
    }

    /// What lies below a landscape's horizon, in pixels.
    pub fn of_land(land: Land) -> Self {
        let (left, right) = (-8, SIDE as i32 + 8);
        let (first, last) = (f64::from(left), f64::from(right));
        let mut corners = match land {
            Land::Sea => vec![(first, 84.0), (last, 84.0)],
            Land::Mountains => vec![(first, 106.0), (34.0, 62.0), (62.0, 96.0), (92.0, 58.0), (last, 108.0)],
            Land::Hills => {
                let height = |x: f64| 90.0 - 12.0 * ((x - 34.0) / 60.0 * TAU).cos();
                (left..=right).step_by(2).map(|x| (f64::from(x), height(f64::from(x)))).collect()
            }
        };
        corners.extend([(last, last), (first, last)]);
        Self::around(corners)
    }

    fn around(corners: Vec<(f64, f64)>) -> Self {
        let reach = corners.iter().fold(0.0, |reach: f64, (x, y)| reach.max(x.abs()).max(y.abs()));
        Self { corners, reach }
    }

    /// Whether the point lies inside (even-odd rule).
    pub fn contains(&self, x: f64, y: f64) -> bool {
        let near = x.abs() <= self.reach && y.abs() <= self.reach;
        let crosses = |((x0, y0), (x1, y1)): &((f64, f64), (f64, f64))| {
            (*y0 > y) != (*y1 > y) && x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        };
        near && self.edges().filter(crosses).count() % 2 == 1
    }

    /// How far the point is from the line around.
    pub fn distance(&self, x: f64, y: f64) -> f64 {
        self.edges()
            .map(|((x0, y0), (x1, y1))| {
                let (dx, dy) = (x1 - x0, y1 - y0);
                let along = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                (x - x0 - along * dx).hypot(y - y0 - along * dy)
            })
            .fold(f64::INFINITY, f64::min)
    }

    /// Its area, in squares of the radius.
    pub fn area(&self) -> f64 {
        self.signed_area().abs()
    }

    /// Its centre of mass.
    pub fn centroid(&self) -> (f64, f64) {
        let (x, y) = self.edges().fold((0.0, 0.0), |(x, y), ((x0, y0), (x1, y1))| {
            let cross = x0 * y1 - x1 * y0;
            (x + (x0 + x1) * cross, y + (y0 + y1) * cross)
        });
        (x / (6.0 * self.signed_area()), y / (6.0 * self.signed_area()))
    }

    fn signed_area(&self) -> f64 {
        self.edges().map(|((x0, y0), (x1, y1))| x0 * y1 - x1 * y0).sum::<f64>() / 2.0
    }

    fn edges(&self) -> impl Iterator<Item = ((f64, f64), (f64, f64))> + '_ {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().copied().zip(next.copied())
    }
}

fn angles(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |index| TAU * index as f64 / count as f64)
}

fn disc(radius: f64) -> Vec<(f64, f64)> {
    angles(CURVE_CORNERS).map(|angle| (radius * angle.cos(), radius * angle.sin())).collect()
}

/// The right half of a shape, from its top to its foot, and the same on the left.
fn mirrored(right: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let left = right.iter().skip(1).rev().map(|&(x, y)| (-x, y));
    right.iter().copied().chain(left).collect()
}

/// A disc of radius 1.05 without a disc of radius 0.9 that is 0.55 further right; moved to the middle of its width.
fn crescent() -> Vec<(f64, f64)> {
    let (outer, inner, shift, back) = (1.05_f64, 0.9_f64, 0.55, 0.28);
    // Where both circles meet, seen from the outer one's centre.
    let x = (outer.powi(2) - inner.powi(2) + shift * shift) / (2.0 * shift);
    let arc = |centre: f64, radius: f64, from: f64, to: f64| {
        (0..=CURVE_CORNERS).map(move |index| {
            let angle = from + (to - from) * index as f64 / CURVE_CORNERS as f64;
            (centre + radius * angle.cos() + back, radius * angle.sin())
        })
    };
    let (from_outer, from_inner) = ((x / outer).acos(), ((x - shift) / inner).acos());
    arc(0.0, outer, from_outer, TAU - from_outer).chain(arc(shift, inner, TAU - from_inner, from_inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_and_centroid_are_those_of_the_points_inside() {
        const STEP: f64 = 0.01;
        for shape in Shape::ALL {
            let outline = Outline::of(shape);
            let grid = || (-140..140).map(|i| (f64::from(i) + 0.5) * STEP);
            let inside: Vec<_> =
                grid().flat_map(|y| grid().map(move |x| (x, y))).filter(|&(x, y)| outline.contains(x, y)).collect();
            let count = inside.len() as f64;
            let mean = inside.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / count, sy + y / count));
            assert!((outline.area() - count * STEP * STEP).abs() < 0.01, "{shape:?}: {}", outline.area());
            let (x, y) = outline.centroid();
            assert!((x - mean.0).abs() < 0.01 && (y - mean.1).abs() < 0.01, "{shape:?}: {x} {y} against {mean:?}");
        }
    }

    #[test]
    fn distances_are_those_to_the_nearest_edge() {
        let square = Outline::of(Shape::Square);
        for (point, distance) in [((0.0, 0.0), 0.88), ((0.5, 0.0), 0.38), ((0.88 + 0.3, 0.88 + 0.4), 0.5)] {
            assert!((square.distance(point.0, point.1) - distance).abs() < 1e-12, "{point:?}");
        }
    }
}
