//! Scenes and placements drawn at random, as the training data draws them (`deploy/models/pocket/train/world/scenes.py`).

use std::ops::Range;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::render::Placed;
use super::{Arrangement, Axis, Colour, Fill, Land, Light, Object, Relation, SIDE, Scene, Shape, Size};

/// Which part of the grammar scenes are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Five plain shapes; two in five scenes are a single object, two in five a pair, one in five two or three alike.
    Basic,
    /// Everything. The model's rates are those of such scenes.
    Wide,
}

impl World {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Basic, Self::Wide];

    fn shapes(self) -> &'static [Shape] {
        match self {
            Self::Basic => &Shape::BASIC,
            Self::Wide => &Shape::ALL,
        }
    }
}

/// Draws a scene. Objects differ from the background in colour, and the two of a pair differ from each other in colour or shape.
pub fn scene<R: Rng>(rng: &mut R, world: World) -> Scene {
    let background = pick(rng, &Colour::ALL);
    let drawing = &mut Drawing { rng, world, background };
    let arrangement = match (world, drawing.rng.random_range(0..100)) {
        (World::Basic, 0..40) | (World::Wide, 0..30) => drawing.single(),
        (World::Basic, 40..80) | (World::Wide, 30..55) => drawing.pair(),
        (World::Basic, _) | (World::Wide, 55..67) => drawing.row(),
        (World::Wide, 67..78) => drawing.inside(),
        (World::Wide, 78..89) => drawing.list(),
        (World::Wide, _) => drawing.landscape(),
    };
    Scene { arrangement, background }
}

struct Drawing<'a, R> {
    rng: &'a mut R,
    world: World,
    background: Colour,
}

impl<R: Rng> Drawing<'_, R> {
    fn colour(&mut self, but: &[Colour]) -> Colour {
        loop {
            let colour = pick(self.rng, &Colour::ALL);
            if colour != self.background && !but.contains(&colour) {
                return colour;
            }
        }
    }

    fn plain(&mut self) -> Object {
        let colour = self.colour(&[]);
        Object::plain(colour, pick(self.rng, self.world.shapes()))
    }

    /// In the wide world, half of the objects that have room for it are not plain.
    fn filled(&mut self, size: Option<Size>) -> Object {
        let object = Object { size, ..self.plain() };
        let room = Shape::ROOMY.contains(&object.shape) && size != Some(Size::Small);
        if self.world == World::Basic || !room || self.rng.random() {
            return object;
        }
        let second = self.colour(&[object.colour]);
        let fill = pick(self.rng, &[Fill::Outlined, Fill::Striped(second), Fill::Dotted(second)]);
        Object { fill, ..object }
    }

    /// Half of the objects have no size word.
    fn sized(&mut self) -> Object {
        let size = pick(self.rng, &[None, None, Some(Size::Small), Some(Size::Large)]);
        self.filled(size)
    }

    fn single(&mut self) -> Arrangement {
        Arrangement::Single(self.sized())
    }

    fn pair(&mut self) -> Arrangement {
        let first = self.sized();
        let relation = pick(self.rng, &Relation::ALL);
        let second = loop {
            let second = self.sized();
            if (second.colour, second.shape) != (first.colour, first.shape) {
                break second;
            }
        };
        Arrangement::Pair { first, relation, second }
    }

    fn row(&mut self) -> Arrangement {
        let count = self.rng.random_range(2..=if self.world == World::Basic { 3 } else { 4 });
        // Patterns want room, which three in a row do not have.
        let object = if count == 3 { self.plain() } else { self.filled(None) };
        Arrangement::Row { object, count }
    }

    fn list(&mut self) -> Arrangement {
        let count = self.rng.random_range(3..=4);
        Arrangement::List((0..count).map(|_| self.plain()).collect())
    }

    fn inside(&mut self) -> Arrangement {
        let outer = Object::plain(self.colour(&[]), pick(self.rng, &Shape::OUTER));
        let inner = Object { colour: self.colour(&[outer.colour]), ..self.plain() };
        Arrangement::Inside { inner, outer }
    }

    fn landscape(&mut self) -> Arrangement {
        let (light, light_colour) = (pick(self.rng, &Light::ALL), self.colour(&[]));
        let land_colour = self.colour(&[light_colour]);
        Arrangement::Landscape { light, light_colour, land: pick(self.rng, &Land::ALL), land_colour }
    }
}

/// Draws a place and a radius for each of a scene's objects, in reading order.
pub fn places<R: Rng>(rng: &mut R, scene: &Scene) -> Vec<Placed> {
    let middle = f64::from(SIDE) / 2.0;
    let objects = scene.in_reading_order();
    match &scene.arrangement {
        Arrangement::Single(object) => {
            let (x, y) = (jitter(rng, middle, 4.0), jitter(rng, middle, 4.0));
            vec![Placed { object: *object, x, y, radius: rng.random_range(radii(object.size)) }]
        }
        Arrangement::Pair { .. } => objects
            .into_iter()
            .zip([33.0, 95.0])
            .map(|(object, along)| {
                let (along, across) = (jitter(rng, along, 2.0), jitter(rng, middle, 2.5));
                let (x, y) = if scene.axis() == Axis::Vertical { (across, along) } else { (along, across) };
                Placed { object, x, y, radius: rng.random_range(radii(object.size)) }
            })
            .collect(),
        Arrangement::Row { .. } | Arrangement::List(_) => grid(rng, &objects),
        Arrangement::Inside { inner, outer } => {
            let (x, y) = (jitter(rng, middle, 3.0), jitter(rng, middle, 3.0));
            let (small, large) = (rng.random_range(15.0..17.0), rng.random_range(44.0..48.0));
            vec![Placed { object: *inner, x, y, radius: small }, Placed { object: *outer, x, y, radius: large }]
        }
        Arrangement::Landscape { .. } => {
            let x = pick(rng, &[32.0, 64.0, 96.0]);
            let (x, y, radius) = (jitter(rng, x, 4.0), jitter(rng, 32.0, 3.0), rng.random_range(14.0..16.0));
            objects.into_iter().map(|object| Placed { object, x, y, radius }).collect()
        }
    }
}

/// Two or three in a row, four in a square, all of one radius.
fn grid<R: Rng>(rng: &mut R, objects: &[Object]) -> Vec<Placed> {
    let (places, radii): (&[(f64, f64)], _) = match objects.len() {
        2 => (&[(33.0, 64.0), (95.0, 64.0)], radii(None)),
        3 => (&[(23.0, 64.0), (64.0, 64.0), (105.0, 64.0)], 14.0..17.0),
        _ => (&[(35.0, 35.0), (93.0, 35.0), (35.0, 93.0), (93.0, 93.0)], 18.0..21.0),
    };
    let (radius, down) = (rng.random_range(radii), jitter(rng, 0.0, 2.5));
    objects
        .iter()
        .zip(places)
        .map(|(object, &(x, y))| Placed { object: *object, x: jitter(rng, x, 2.0), y: y + down, radius })
        .collect()
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
