//! The judge, judged: true pictures are right, pictures of something else are not.

use std::fs;
use std::path::Path;

use image::{RgbImage, imageops};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rates::Rates;
use super::{Verdict, judge};
use crate::scenes::draw::{self, World};
use crate::scenes::render::{Placed, render};
use crate::scenes::{Arrangement, Colour, Fill, Land, Light, Object, Relation, SIDE, Scene, Shape, Size};

/// Of each world.
const SCENES: usize = 250;

fn scenes() -> (StdRng, Vec<Scene>) {
    let mut rng = StdRng::seed_from_u64(101);
    let scenes = World::ALL.into_iter().flat_map(|world| std::iter::repeat_n(world, SCENES));
    let scenes = scenes.map(|world| draw::scene(&mut rng, world)).collect();
    (rng, scenes)
}

fn picture(rng: &mut StdRng, scene: &Scene) -> RgbImage {
    render(scene, &draw::places(rng, scene))
}

/// The rates of pictures drawn from each scene by `draw_picture`, judged against that scene.
fn rates(draw_picture: impl Fn(&mut StdRng, &Scene) -> Option<RgbImage>) -> Rates {
    let (mut rng, scenes) = scenes();
    let verdicts: Vec<Verdict> =
        scenes.iter().filter_map(|scene| draw_picture(&mut rng, scene).map(|picture| judge(scene, &picture))).collect();
    assert!(verdicts.len() > SCENES / 20, "too few pictures to tell: {}", verdicts.len());
    Rates::of(&verdicts)
}

/// Every attribute of every picture is right.
fn assert_all_right(draw_picture: impl Fn(&mut StdRng, &Scene) -> RgbImage) {
    let (mut rng, scenes) = scenes();
    for scene in scenes {
        let verdict = judge(&scene, &draw_picture(&mut rng, &scene));
        assert!(verdict.all_right(), "{scene}: {verdict:?}");
    }
}

#[test]
fn true_pictures_are_right() {
    assert_all_right(picture);
}

/// `tests/golden/make_scenes.py`
#[test]
fn what_the_model_learned_from_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/scenes");
    let sheet = image::open(folder.join("sheet.png")).unwrap().into_rgb8();
    let prompts = fs::read_to_string(folder.join("prompts.txt")).unwrap();
    let columns = sheet.width() / SIDE;
    assert_eq!(prompts.lines().count() as u32, columns * sheet.height() / SIDE);
    for (number, prompt) in (0..).zip(prompts.lines()) {
        let (x, y) = (number % columns * SIDE, number / columns * SIDE);
        let scene: Scene = prompt.parse().unwrap();
        let verdict = judge(&scene, &imageops::crop_imm(&sheet, x, y, SIDE, SIDE).to_image());
        assert!(verdict.all_right(), "{prompt}: {verdict:?}");
    }
}

#[test]
fn noise_does_not_matter() {
    // A standard deviation of 12 levels.
    assert_all_right(|rng, scene| {
        let mut picture = picture(rng, scene);
        for level in picture.iter_mut() {
            *level = (f64::from(*level) + rng.random_range(-20.8..20.8)).round() as u8;
        }
        picture
    });
}

/// Another value than `not`, the next one in the list.
fn other<T: PartialEq + Copy>(all: &[T], not: T, also_not: Option<T>) -> T {
    let start = all.iter().position(|&value| value == not).unwrap();
    (1..all.len()).map(|step| all[(start + step) % all.len()]).find(|&value| Some(value) != also_not).unwrap()
}

/// The scene with its first object changed; not a landscape's light.
fn with_first(scene: &Scene, change: impl Fn(&mut Object)) -> Option<Scene> {
    let mut changed = scene.clone();
    match &mut changed.arrangement {
        Arrangement::Single(object)
        | Arrangement::Pair { first: object, .. }
        | Arrangement::Inside { inner: object, .. }
        | Arrangement::Row { object, .. } => change(object),
        Arrangement::List(objects) => change(&mut objects[0]),
        Arrangement::Landscape { .. } => return None,
    }
    (changed != *scene).then_some(changed)
}

/// A colour that is nowhere in the scene.
fn absent(scene: &Scene) -> Colour {
    let objects = scene.in_reading_order();
    let land = match scene.arrangement {
        Arrangement::Landscape { land_colour, .. } => Some(land_colour),
        _ => None,
    };
    let there = |colour: &Colour| {
        objects.iter().any(|object| object.colour == *colour || object.fill.second() == Some(*colour))
            || scene.background == *colour
            || land == Some(*colour)
    };
    Colour::ALL.into_iter().find(|colour| !there(colour)).unwrap()
}

/// Changes one attribute of a scene, where it has that attribute.
type Change = fn(&Scene) -> Option<Scene>;

const CHANGES: [(&str, Change); 11] = [
    ("colour", |scene| with_first(scene, |object| object.colour = absent(scene))),
    ("second colour", |scene| {
        with_first(scene, |object| match &mut object.fill {
            Fill::Striped(second) | Fill::Dotted(second) => *second = absent(scene),
            Fill::Plain | Fill::Outlined => {}
        })
    }),
    ("shape", |scene| {
        // Outlines and patterns on shapes without the room for it can be told from nothing.
        let roomy = |object: &Object| object.fill == Fill::Plain || Shape::ROOMY.contains(&object.shape);
        with_first(scene, |object| object.shape = other(&Shape::ALL, object.shape, None))
            .filter(|changed| changed.in_reading_order().iter().all(roomy))
    }),
    ("fill", |scene| {
        let second = absent(scene);
        with_first(scene, |object| {
            if Shape::ROOMY.contains(&object.shape) && object.size != Some(Size::Small) {
                object.fill = match object.fill {
                    Fill::Plain => Fill::Dotted(second),
                    Fill::Outlined => Fill::Striped(second),
                    Fill::Striped(second) => Fill::Dotted(second),
                    Fill::Dotted(second) => Fill::Striped(second),
                };
            }
        })
        // Three in a row, and what is inside of something, are small.
        .filter(|_| matches!(scene.arrangement, Arrangement::Single(_) | Arrangement::Pair { .. }))
    }),
    ("outline", |scene| {
        with_first(scene, |object| {
            if object.fill == Fill::Outlined {
                object.fill = Fill::Plain;
            } else if object.fill == Fill::Plain && Shape::ROOMY.contains(&object.shape) {
                object.fill = Fill::Outlined;
            }
        })
        .filter(|_| matches!(scene.arrangement, Arrangement::Single(_) | Arrangement::Pair { .. }))
    }),
    ("background", |scene| Some(Scene { background: absent(scene), ..scene.clone() })),
    ("relation", |scene| match scene.arrangement {
        Arrangement::Pair { first, relation, second } => {
            let relation = other(&Relation::ALL, relation, None);
            Some(Scene { arrangement: Arrangement::Pair { first, relation, second }, ..scene.clone() })
        }
        _ => None,
    }),
    ("count", |scene| match scene.arrangement {
        Arrangement::Row { object, count } => {
            let count = other(&[2, 3, 4], count, None);
            Some(Scene { arrangement: Arrangement::Row { object, count }, ..scene.clone() })
        }
        _ => None,
    }),
    ("size", |scene| match scene.arrangement {
        Arrangement::Single(object) => object
            .size
            .filter(|_| object.fill == Fill::Plain)
            .and_then(|size| with_first(scene, |object| object.size = Some(other(&Size::ALL, size, None)))),
        _ => None,
    }),
    ("land", |scene| match scene.arrangement {
        Arrangement::Landscape { light, light_colour, land, land_colour } => {
            let land = other(&Land::ALL, land, None);
            let arrangement = Arrangement::Landscape { light, light_colour, land, land_colour };
            Some(Scene { arrangement, ..scene.clone() })
        }
        _ => None,
    }),
    ("light", |scene| match scene.arrangement {
        Arrangement::Landscape { light, light_colour, land, land_colour } => {
            let light = other(&Light::ALL, light, None);
            let arrangement = Arrangement::Landscape { light, light_colour, land, land_colour };
            Some(Scene { arrangement, ..scene.clone() })
        }
        _ => None,
    }),
];

#[test]
fn one_wrong_attribute_is_seen() {
    for (attribute, change) in CHANGES {
        let rates = rates(|rng, scene| change(scene).map(|changed| picture(rng, &changed)));
        assert!(rates.all_right <= 2.0, "pictures with another {attribute} pass:\n{rates}");
    }
}

#[test]
fn an_empty_picture_has_only_its_background_right() {
    let scene: Scene = "a red circle on a white background".parse().unwrap();
    let verdict = judge(&scene, &render(&scene, &[]));
    let nothing = Verdict { background: true, layout: false, colour: 0.0, shape: 0.0, fill: 0.0, size: None };
    assert_eq!(verdict, nothing);
}

#[test]
fn a_blob_has_no_shape() {
    let scene: Scene = "a red circle on a white background".parse().unwrap();
    let bar = |x| Placed { object: scene.in_reading_order()[0], x, y: 64.0, radius: 9.0 };
    let picture = render(&scene, &[40.0, 52.0, 64.0, 76.0, 88.0].map(bar));
    let verdict = judge(&scene, &picture);
    assert_eq!((verdict.layout, verdict.colour, verdict.shape), (true, 1.0, 0.0));
}
