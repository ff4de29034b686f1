//! Prompts of every kind, read and written.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::scenes::draw::{self, World};

#[test]
fn prompts_read_as_people_write_them() {
    let text = "an orange star right of a small blue heart on a white background";
    let scene: Scene = text.parse().unwrap();
    let star = Object::plain(Colour::Orange, Shape::Star);
    let heart = Object { size: Some(Size::Small), ..Object::plain(Colour::Blue, Shape::Heart) };
    assert_eq!(scene.in_reading_order(), [heart, star]);
    assert_eq!(scene.to_string(), text);
    let row: Scene = "three red hearts on an orange background".parse().unwrap();
    assert_eq!(row.in_reading_order().len(), 3);
}

#[test]
fn every_drawn_scene_survives_its_prompt() {
    let mut rng = StdRng::seed_from_u64(3);
    for world in World::ALL {
        for _ in 0..500 {
            let scene = draw::scene(&mut rng, world);
            assert_eq!(scene.to_string().parse(), Ok(scene));
        }
    }
}

#[test]
fn other_prompts_are_refused_with_what_was_expected() {
    for (prompt, expected) in [
        ("a cat", "expected a colour, found \"cat\""),
        ("a red circle", "expected a relation or the word on, found the end"),
        ("a red circle left a blue star on a white background", "expected the word of, found \"a\""),
        ("two red circle on a white background", "expected a shape, found \"circle\""),
        ("a red circle on a white background please", "expected the end, found \"please\""),
        ("a striped red circle on a white background", "expected the word and, found \"circle\""),
        ("a red circle, a blue star on a white background", "expected the word and, found \"on\""),
        ("a yellow sun over green sea under a blue sky", "expected a land, found \"sea\""),
    ] {
        let message = prompt.parse::<Scene>().unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }
}
