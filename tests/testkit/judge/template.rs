//! Names the shape of a region by laying templates of equal area over it.

use super::mask::Mask;
use crate::scenes::outline::Outline;
use crate::scenes::{Land, Shape};

/// Templates are tried a little smaller and a little larger than the region: a ragged edge changes the area.
const SCALES: [f64; 2] = [0.96, 1.04];
/// No object is larger; caps the template where a region covers most of the picture.
const LARGEST_RADIUS: f64 = 50.0;
/// The least intersection over union at which a shape counts as recognised.
const GOOD_FIT: f64 = 0.72;
/// Likewise for a landscape's ground, whose place is fixed.
const GOOD_GROUND: f64 = 0.9;
/// The part of its filled area that a hollow shape's hole covers at least; and between a ring's (0.27) and an outlined circle's (0.6).
const HOLLOW: f64 = 0.08;
const WIDE_HOLE: f64 = 0.42;

/// What a region looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// The shape whose template fits best, or `None` where none fits well.
    pub shape: Option<Shape>,
    /// Only its outline is there.
    pub outlined: bool,
    /// Its area in pixels, holes included.
    pub area: usize,
}

/// Names a region's shape.
pub fn form(region: &Mask) -> Form {
    let filled = region.filled();
    let area = filled.area();
    let hole = 1.0 - region.area() as f64 / area.max(1) as f64;
    match best_shape(&filled) {
        Some(Shape::Circle) if (HOLLOW..WIDE_HOLE).contains(&hole) => {
            Form { shape: Some(Shape::Ring), outlined: false, area }
        }
        shape => Form { shape, outlined: hole >= HOLLOW, area },
    }
}

/// A ring is a circle with a hole.
fn best_shape(filled: &Mask) -> Option<Shape> {
    let (x, y) = filled.centroid();
    let mut best = (GOOD_FIT, None);
    for shape in Shape::ALL.into_iter().filter(|shape| *shape != Shape::Ring) {
        let outline = Outline::of(shape);
        let (centre_x, centre_y) = outline.centroid();
        for scale in SCALES {
            let radius = (scale * radius_of(shape, filled.area())).min(LARGEST_RADIUS);
            let template =
                filled.like(|px, py| outline.contains((px - x) / radius + centre_x, (py - y) / radius + centre_y));
            let fit = filled.intersection_over_union(&template);
            if fit > best.0 {
                best = (fit, Some(shape));
            }
        }
    }
    best.1
}

/// The land that a landscape's ground looks like.
pub fn best_land(ground: &Mask) -> Option<Land> {
    let fit = |land: Land| {
        let outline = Outline::of_land(land);
        ground.intersection_over_union(&ground.like(|x, y| outline.contains(x, y)))
    };
    let best = Land::ALL.into_iter().map(|land| (fit(land), land)).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= GOOD_GROUND).then_some(best.1)
}

/// The radius in pixels of an object with this shape and area, holes included.
pub fn radius_of(shape: Shape, area: usize) -> f64 {
    (area as f64 / Outline::of(shape).area()).sqrt()
}
