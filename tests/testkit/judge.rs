//! An analytic judge: does a picture show the scene that its prompt asked for?
//!
//! It looks at pixels only, with no learned part: [`segment`] finds the background and the objects on it by the nearest
//! colours of the palette, [`template`] names each object's shape, and what was found is compared with the [`Scene`].

pub mod mask;
pub mod rates;
pub mod seen;
pub mod segment;
pub mod template;

use image::RgbImage;

use crate::scenes::{Arrangement, Axis, Fill, Object, Scene};
use seen::{Seen, SeenObject};

/// The part of the picture's border that must have the background's colour.
const PLAIN_BORDER: f64 = 0.9;
/// The least distance, in pixels, between the centres of neighbours along the line on which they stand.
const DISTANCE: f64 = 25.0;
/// The largest distance, in pixels, between the centres of what is inside of something and of what it is in.
const CONCENTRIC: f64 = 16.0;

/// What a picture got right of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The border has the background's colour almost everywhere; of a landscape, the sky.
    pub background: bool,
    /// There are as many objects as asked for, and they stand as asked.
    pub layout: bool,
    /// The part of the objects with the right colours, 0 to 1. Missing and extra objects count as wrong; a land is an object.
    pub colour: f64,
    /// The part of the objects with the right shape, likewise.
    pub shape: f64,
    /// The part of the objects that are plain, outlined, striped or dotted as asked, likewise.
    pub fill: f64,
    /// Whether all objects with a size word have that size; `None` where the prompt has no size word.
    pub size: Option<bool>,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn all_right(&self) -> bool {
        let wholly = [self.colour, self.shape, self.fill].iter().all(|part| *part == 1.0);
        self.background && self.layout && wholly && self.size != Some(false)
    }
}

/// Compares a picture with the scene that it should show.
pub fn judge(scene: &Scene, picture: &RgbImage) -> Verdict {
    let wanted = scene.in_reading_order();
    let seen = match &scene.arrangement {
        Arrangement::Landscape { .. } => Seen::landscape(picture),
        Arrangement::Inside { .. } => Seen::inside(picture),
        _ => Seen::standing(picture, scene.axis()),
    };
    let pairs: Vec<(&Object, &SeenObject)> = wanted.iter().zip(&seen.objects).collect();
    // A landscape's ground is one more thing to be right, in its colour and in its kind.
    let ground = match &scene.arrangement {
        Arrangement::Landscape { land, land_colour, .. } => {
            seen.ground.map(|(colour, seen)| (colour == *land_colour, seen == Some(*land)))
        }
        _ => None,
    };
    let part = |right: &dyn Fn(&Object, &SeenObject) -> bool, ground: Option<bool>| {
        let of = wanted.len().max(seen.objects.len()) + usize::from(ground.is_some());
        let right = pairs.iter().filter(|(w, s)| right(w, s)).count() + usize::from(ground == Some(true));
        right as f64 / of as f64
    };
    let sizes: Vec<bool> = pairs.iter().filter_map(|(w, s)| Some(s.has_size(w.shape, w.size?))).collect();
    Verdict {
        background: seen.background == scene.background && seen.plain_border > PLAIN_BORDER,
        layout: wanted.len() == seen.objects.len() && stands_as_asked(scene, &seen.objects),
        colour: part(&|wanted, seen| has_colours(wanted, seen), ground.map(|(colour, _)| colour)),
        shape: part(&|wanted, seen| Some(wanted.shape) == seen.shape, ground.map(|(_, land)| land)),
        fill: part(&|wanted, seen| wanted.fill.pattern() == seen.fill.pattern(), None),
        size: wanted.iter().any(|object| object.size.is_some()).then(|| !sizes.is_empty() && !sizes.contains(&false)),
    }
}

/// Whether an object has its colours. Which of two colours the stripes begin with is not asked.
fn has_colours(wanted: &Object, seen: &SeenObject) -> bool {
    let colours = (seen.colour, seen.fill.second());
    let swapped = match wanted.fill {
        Fill::Striped(second) => colours == (second, Some(wanted.colour)),
        _ => false,
    };
    colours == (wanted.colour, wanted.fill.second()) || swapped
}

/// Whether objects stand on their line, well apart. Which of them comes first is told by their colours and shapes; a single one may
/// stand anywhere, and a light anywhere above the land.
fn stands_as_asked(scene: &Scene, objects: &[SeenObject]) -> bool {
    let apart = |first: &SeenObject, second: &SeenObject, axis: Axis| {
        let (across, down) = ((first.x - second.x).abs(), (first.y - second.y).abs());
        match axis {
            Axis::Vertical => down > across && down > DISTANCE,
            Axis::Horizontal | Axis::Square => across > down && across > DISTANCE,
        }
    };
    match (&scene.arrangement, objects) {
        (Arrangement::Inside { .. }, [inner, outer]) => (inner.x - outer.x).hypot(inner.y - outer.y) < CONCENTRIC,
        (_, [top_left, top_right, bottom_left, bottom_right]) => {
            apart(top_left, top_right, Axis::Horizontal)
                && apart(bottom_left, bottom_right, Axis::Horizontal)
                && apart(top_left, bottom_left, Axis::Vertical)
                && apart(top_right, bottom_right, Axis::Vertical)
        }
        _ => objects.windows(2).all(|pair| apart(&pair[0], &pair[1], scene.axis())),
    }
}

#[cfg(test)]
mod tests;
