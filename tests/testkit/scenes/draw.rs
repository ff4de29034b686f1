//! Scenes and placements drawn at random, as the training data draws them.

use std::ops::Range;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::render::Placed;
use super::{Arrangement, Axis, Colour, Object, Relation, SIDE, Scene, Shape, Size};

/// Draws a scene: two in five a single object, two in five a pair, one in five a row. Objects differ from the background in
/// colour, and the two of a pair differ from each other in colour or shape.
pub fn scene<R: Rng>(rng: &mut R) -> Scene {
    let background = pick(rng, &Colour::ALL);
    let arrangement = match rng.random_range(0..5) {
        0 | 1 => {
            let size = size(rng);
            Arrangement::Single(object(rng, background, size))
        }
        2 | 3 => {
            let size_of_first = size(rng);
            let first = object(rng, background, size_of_first);
            let relation = pick(rng, &Relation::ALL);
            let second = loop {
                let size = size(rng);
                let second = object(rng, background, size);
                if (second.colour, second.shape) != (first.colour, first.shape) {
                    break second;
                }
            };
            Arrangement::Pair { first, relation, second }
        }
        _ => Arrangement::Row { object: object(rng, background, None), count: rng.random_range(2..=3) },
    };
    Scene { arrangement, background }
}

fn object<R: Rng>(rng: &mut R, background: Colour, size: Option<Size>) -> Object {
    let colour = loop {
        let colour = pick(rng, &Colour::ALL);
        if colour != background {
            break colour;
        }
    };
    Object { size, colour, shape: pick(rng, &Shape::ALL) }
}

/// Half of the objects have no size word.
fn size<R: Rng>(rng: &mut R) -> Option<Size> {
    pick(rng, &[None, None, Some(Size::Small), Some(Size::Large)])
}

/// Draws a place and a radius for each of a scene's objects, in reading order.
pub fn places<R: Rng>(rng: &mut R, scene: &Scene) -> Vec<Placed> {
    let middle = f64::from(SIDE) / 2.0;
    let objects = scene.in_reading_order();
    match scene.arrangement {
        Arrangement::Single(object) => {
            let (x, y) = (jitter(rng, middle, 4.0), jitter(rng, middle, 4.0));
            vec![Placed { object, x, y, radius: rng.random_range(radii(object.size)) }]
        }
        Arrangement::Pair { .. } => objects
            .into_iter()
            .zip([33.0, 95.0])
            .map(|(object, along)| {
                let (along, across) = (jitter(rng, along, 2.0), jitter(rng, middle, 2.5));
                let (x, y) = match scene.axis() {
                    Axis::Horizontal => (along, across),
                    Axis::Vertical => (across, along),
                };
                Placed { object, x, y, radius: rng.random_range(radii(object.size)) }
            })
            .collect(),
        Arrangement::Row { object, count } => {
            let (columns, radii): (&[f64], _) =
                if count == 2 { (&[33.0, 95.0], radii(object.size)) } else { (&[23.0, 64.0, 105.0], 14.0..17.0) };
            let (radius, y) = (rng.random_range(radii), jitter(rng, middle, 2.5));
            columns.iter().map(|&column| Placed { object, x: jitter(rng, column, 2.0), y, radius }).collect()
        }
    }
}

/// Radii in pixels that each size has in the training pictures.
fn radii(size: Option<Size>) -> Range<f64> {
    match size {
        Some(Size::Small) => 14.0..16.0,
        None => 20.0..23.0,
        Some(Size::Large) => 27.0..29.5,
    }
}

fn jitter<R: Rng>(rng: &mut R, around: f64, amount: f64) -> f64 {
    around + rng.random_range(-amount..amount)
}

fn pick<R: Rng, T: Copy>(rng: &mut R, of: &[T]) -> T {
    #[allow(clippy::expect_used, reason = "every caller passes a list that is written out")]
    *of.choose(rng).expect("a list that is not empty")
}
