//! The judge, judged: true pictures are right, pictures of something else are not.

use image::RgbImage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rates::Rates;
use super::{Verdict, judge};
use crate::scenes::render::{Placed, render};
use crate::scenes::{Arrangement, Colour, Object, Relation, Scene, Shape, Size, draw};

const SCENES: usize = 120;

fn scenes() -> (StdRng, Vec<Scene>) {
    let mut rng = StdRng::seed_from_u64(101);
    let scenes = (0..SCENES).map(|_| draw::scene(&mut rng)).collect();
    (rng, scenes)
}

fn picture(rng: &mut StdRng, scene: &Scene) -> RgbImage {
    render(scene.background, &draw::places(rng, scene))
}

/// The rates of pictures drawn from each scene by `draw_picture`, judged against that scene.
fn rates(draw_picture: impl Fn(&mut StdRng, &Scene) -> Option<RgbImage>) -> Rates {
    let (mut rng, scenes) = scenes();
    let verdicts: Vec<Verdict> =
        scenes.iter().filter_map(|scene| draw_picture(&mut rng, scene).map(|picture| judge(scene, &picture))).collect();
    assert!(verdicts.len() > SCENES / 8, "too few pictures to tell: {}", verdicts.len());
    Rates::of(&verdicts)
}

#[test]
fn true_pictures_are_right() {
    let rates = rates(|rng, scene| Some(picture(rng, scene)));
    assert!(rates.named().iter().all(|(_, rate)| *rate == 100.0), "\n{rates}");
}

#[test]
fn noise_does_not_matter() {
    // A standard deviation of 12 levels.
    let rates = rates(|rng, scene| {
        let mut picture = picture(rng, scene);
        for level in picture.iter_mut() {
            *level = (f64::from(*level) + rng.random_range(-20.8..20.8)).round() as u8;
        }
        Some(picture)
    });
    assert!(rates.named().iter().all(|(_, rate)| *rate == 100.0), "\n{rates}");
}

/// Another value than `not`, the next one in the list.
fn other<T: PartialEq + Copy>(all: &[T], not: T, also_not: Option<T>) -> T {
    let start = all.iter().position(|&value| value == not).unwrap();
    (1..all.len()).map(|step| all[(start + step) % all.len()]).find(|&value| Some(value) != also_not).unwrap()
}

/// The scene with its first object changed.
fn with_first(scene: &Scene, change: impl Fn(&mut Object)) -> Scene {
    let mut changed = *scene;
    match &mut changed.arrangement {
        Arrangement::Single(object) | Arrangement::Pair { first: object, .. } | Arrangement::Row { object, .. } => {
            change(object);
        }
    }
    changed
}

#[test]
fn one_wrong_attribute_is_seen() {
    type Change = fn(&Scene) -> Option<Scene>;
    type Rate = fn(&Rates) -> f64;
    let changes: [(&str, Change, Rate); 6] = [
        (
            "colour",
            |scene| {
                Some(with_first(scene, |object| {
                    object.colour = other(&Colour::ALL, object.colour, Some(scene.background))
                }))
            },
            |rates| rates.all_right,
        ),
        (
            "shape",
            |scene| Some(with_first(scene, |object| object.shape = other(&Shape::ALL, object.shape, None))),
            |rates| rates.all_right,
        ),
        (
            "background",
            |scene| {
                let objects = scene.in_reading_order();
                let background = Colour::ALL.into_iter().find(|&colour| {
                    colour != scene.background && objects.iter().all(|object| object.colour != colour)
                })?;
                Some(Scene { background, ..*scene })
            },
            |rates| rates.background,
        ),
        (
            "relation",
            |scene| match scene.arrangement {
                Arrangement::Pair { first, relation, second } => {
                    let relation = other(&Relation::ALL, relation, None);
                    Some(Scene { arrangement: Arrangement::Pair { first, relation, second }, ..*scene })
                }
                _ => None,
            },
            |rates| rates.all_right,
        ),
        (
            "count",
            |scene| match scene.arrangement {
                Arrangement::Row { object, count } => {
                    Some(Scene { arrangement: Arrangement::Row { object, count: 5 - count }, ..*scene })
                }
                _ => None,
            },
            |rates| rates.layout,
        ),
        (
            "size",
            |scene| match scene.arrangement {
                Arrangement::Single(object) => object
                    .size
                    .map(|size| with_first(scene, |object| object.size = Some(other(&Size::ALL, size, None)))),
                _ => None,
            },
            |rates| rates.size,
        ),
    ];
    for (attribute, change, rate) in changes {
        let rates = rates(|rng, scene| change(scene).map(|changed| picture(rng, &changed)));
        assert!(rate(&rates) <= 2.0, "pictures with another {attribute} pass:\n{rates}");
        assert!(rates.all_right <= 2.0, "pictures with another {attribute} pass:\n{rates}");
    }
}

#[test]
fn an_empty_picture_has_only_its_background_right() {
    let scene: Scene = "a red circle on a white background".parse().unwrap();
    let verdict = judge(&scene, &render(scene.background, &[]));
    assert_eq!(verdict, Verdict { background: true, layout: false, colour: 0.0, shape: 0.0, size: None });
}

#[test]
fn a_blob_has_no_shape() {
    let scene: Scene = "a red circle on a white background".parse().unwrap();
    let bar = |x| Placed { object: scene.in_reading_order()[0], x, y: 64.0, radius: 9.0 };
    let picture = render(scene.background, &[40.0, 52.0, 64.0, 76.0, 88.0].map(bar));
    let verdict = judge(&scene, &picture);
    assert_eq!((verdict.layout, verdict.colour, verdict.shape), (true, 1.0, 0.0));
}
