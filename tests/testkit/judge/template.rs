//! Names the shape of a region by laying templates of equal area over it.

use super::mask::Mask;
use crate::scenes::Shape;
use crate::scenes::outline::Outline;

/// Templates are tried a little smaller and a little larger than the region: a ragged edge changes the area.
const SCALES: [f64; 2] = [0.96, 1.04];
/// No object is larger; caps the template where a region covers most of the picture.
const LARGEST_RADIUS: f64 = 48.0;
/// The least intersection over union at which a shape counts as recognised.
const GOOD_FIT: f64 = 0.72;

/// The shape whose template fits a region best, or `None` where none fits well.
pub fn best_shape(region: &Mask) -> Option<Shape> {
    let (x, y) = region.centroid();
    let mut best = (GOOD_FIT, None);
    for shape in Shape::ALL {
        let outline = Outline::of(shape);
        let (centre_x, centre_y) = outline.centroid();
        for scale in SCALES {
            let radius = (scale * radius_of(shape, region.area())).min(LARGEST_RADIUS);
            let template =
                region.like(|px, py| outline.contains((px - x) / radius + centre_x, (py - y) / radius + centre_y));
            let fit = region.intersection_over_union(&template);
            if fit > best.0 {
                best = (fit, Some(shape));
            }
        }
    }
    best.1
}

/// The radius in pixels of an object with this shape and area.
pub fn radius_of(shape: Shape, area: usize) -> f64 {
    (area as f64 / Outline::of(shape).area()).sqrt()
}
