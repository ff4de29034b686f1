//! An analytic judge: does a picture show the scene that its prompt asked for?
//!
//! It looks at pixels only, with no learned part: [`segment`] finds the background and the objects on it by the nearest
//! colours of the palette, [`template`] names each object's shape, and what was found is compared with the [`Scene`].

pub mod mask;
pub mod rates;
pub mod segment;
pub mod template;

use image::RgbImage;

use crate::scenes::{Arrangement, Axis, Colour, Object, Scene, Shape, Size};
use segment::Region;

/// The part of the picture's border that must have the background's colour.
const PLAIN_BORDER: f64 = 0.9;
/// The least distance, in pixels, between the centres of a pair along its axis.
const PAIR_DISTANCE: f64 = 25.0;
/// Radii up to here are small. Small objects are drawn with 14 to 16 pixels, those without a size word with 20 to 23.
const SMALL_BELOW: f64 = 18.5;
/// Radii from here on are large. Large objects are drawn with 27 to 29.5 pixels.
const LARGE_ABOVE: f64 = 24.5;

/// What a picture got right of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The border has the background's colour almost everywhere.
    pub background: bool,
    /// There are as many objects as asked for, and a pair stands as asked.
    pub layout: bool,
    /// The part of the objects with the right colour, 0 to 1. Missing and extra objects count as wrong.
    pub colour: f64,
    /// The part of the objects with the right shape, likewise.
    pub shape: f64,
    /// Whether all objects with a size word have that size; `None` where the prompt has no size word.
    pub size: Option<bool>,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn all_right(&self) -> bool {
        self.background && self.layout && self.colour == 1.0 && self.shape == 1.0 && self.size != Some(false)
    }
}

/// What the judge sees in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The most frequent colour along the border.
    pub background: Colour,
    /// The part of the border that has it.
    pub plain_border: f64,
    /// The objects, from left to right or from top to bottom.
    pub objects: Vec<SeenObject>,
}

/// One object in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenObject {
    /// Its colour well inside its edge.
    pub colour: Colour,
    /// The shape that fits it best, if one fits well.
    pub shape: Option<Shape>,
    /// Its centre of mass, in pixels from the left.
    pub x: f64,
    /// Its centre of mass, in pixels from the top.
    pub y: f64,
    /// Its area in pixels.
    pub area: usize,
}

/// Finds the background and the objects of a picture.
pub fn look(picture: &RgbImage, order: Axis) -> Seen {
    let segments = segment::segment(picture);
    let mut objects: Vec<_> = segments.regions.iter().map(SeenObject::of).collect();
    let place = |object: &SeenObject| match order {
        Axis::Horizontal => object.x,
        Axis::Vertical => object.y,
    };
    objects.sort_by(|a, b| place(a).total_cmp(&place(b)));
    Seen { background: segments.background, plain_border: segments.plain_border, objects }
}

impl SeenObject {
    fn of(region: &Region) -> Self {
        let (x, y) = region.mask.centroid();
        Self { colour: region.colour, shape: template::best_shape(&region.mask), x, y, area: region.mask.area() }
    }

    /// Whether it has `wanted`'s size word, judged by the radius that an object of that shape and this area has.
    fn has_size(&self, shape: Shape, wanted: Size) -> bool {
        let radius = template::radius_of(shape, self.area);
        match wanted {
            Size::Small => radius < SMALL_BELOW,
            Size::Large => radius > LARGE_ABOVE,
        }
    }
}

/// Compares a picture with the scene that it should show.
pub fn judge(scene: &Scene, picture: &RgbImage) -> Verdict {
    let seen = look(picture, scene.axis());
    let wanted = scene.in_reading_order();
    let pairs: Vec<(&Object, &SeenObject)> = wanted.iter().zip(&seen.objects).collect();
    let of = wanted.len().max(seen.objects.len()) as f64;
    let part = |right: fn(&Object, &SeenObject) -> bool| pairs.iter().filter(|(w, s)| right(w, s)).count() as f64 / of;
    let sizes: Vec<bool> = pairs.iter().filter_map(|(w, s)| Some(s.has_size(w.shape, w.size?))).collect();
    Verdict {
        background: seen.background == scene.background && seen.plain_border > PLAIN_BORDER,
        layout: wanted.len() == seen.objects.len() && stands_as_asked(scene, &seen.objects),
        colour: part(|wanted, seen| wanted.colour == seen.colour),
        shape: part(|wanted, seen| Some(wanted.shape) == seen.shape),
        size: wanted.iter().any(|object| object.size.is_some()).then(|| !sizes.is_empty() && !sizes.contains(&false)),
    }
}

/// Whether a pair stands along the axis of its relation, well apart. Which of the two comes first is told by their colours
/// and shapes; single objects and rows may stand anywhere.
fn stands_as_asked(scene: &Scene, objects: &[SeenObject]) -> bool {
    let (Arrangement::Pair { .. }, [first, second]) = (scene.arrangement, objects) else { return true };
    let (across, down) = ((first.x - second.x).abs(), (first.y - second.y).abs());
    match scene.axis() {
        Axis::Horizontal => across > down && across > PAIR_DISTANCE,
        Axis::Vertical => down > across && down > PAIR_DISTANCE,
    }
}

#[cfg(test)]
mod tests;
