//! The geometry of the shapes, for the renderer and for the judge's templates.

use std::f64::consts::{PI, TAU};

use super::Shape;

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
    /// The outline of `shape`. The proportions are those of the training pictures.
    pub fn of(shape: Shape) -> Self {
        let corners = match shape {
            Shape::Circle => around(CURVE_CORNERS).map(|angle| (angle.cos(), angle.sin())).collect(),
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
            Shape::Heart => around(CURVE_CORNERS)
                .map(|t| {
                    let up = 13.0 * t.cos() - 5.0 * (2.0 * t).cos() - 2.0 * (3.0 * t).cos() - (4.0 * t).cos();
                    (t.sin().powi(3), -(up + 2.3) / 16.0)
                })
                .collect(),
        };
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

fn around(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |index| TAU * index as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_and_centroid_are_those_of_the_points_inside() {
        const STEP: f64 = 0.01;
        for shape in Shape::ALL {
            let outline = Outline::of(shape);
            let grid = || (-130..130).map(|i| (f64::from(i) + 0.5) * STEP);
            let inside: Vec<_> =
                grid().flat_map(|y| grid().map(move |x| (x, y))).filter(|&(x, y)| outline.contains(x, y)).collect();
            let count = inside.len() as f64;
            let mean = inside.iter().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / count, sy + y / count));
            assert!((outline.area() - count * STEP * STEP).abs() < 0.01, "{shape:?}: {}", outline.area());
            let (x, y) = outline.centroid();
            assert!((x - mean.0).abs() < 0.01 && (y - mean.1).abs() < 0.01, "{shape:?}: {x} {y} against {mean:?}");
        }
    }
}
