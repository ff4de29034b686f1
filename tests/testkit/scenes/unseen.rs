//! Which scenes the pocket model's training left out, so that its pictures of them show more than memory: `held_out` in
//! `deploy/models/pocket/train/world/scenes.py`.

use super::{Arrangement, Object, Scene};

/// Whether training never saw the scene, because of a combination in it: an object's colour and shape on a background; what stands in
/// which relation to what; what is inside of what; which land under which sky.
pub fn unseen(scene: &Scene) -> bool {
    let background = scene.background.word();
    let on_background = |object: &Object| one_in_ten(&["t", object.colour.word(), object.shape.word(), background]);
    let together = |first: &Object, second: &Object, how: &str| {
        one_in_ten(&["r", first.colour.word(), first.shape.word(), second.colour.word(), second.shape.word(), how])
    };
    match &scene.arrangement {
        Arrangement::Landscape { light, light_colour, land, land_colour } => {
            one_in_ten(&["t", light_colour.word(), light.word(), background])
                || one_in_ten(&["l", land.word(), land_colour.word(), background])
        }
        Arrangement::Pair { first, relation, second } => {
            [first, second].into_iter().any(on_background) || together(first, second, relation.word())
        }
        Arrangement::Inside { inner, outer } => {
            [inner, outer].into_iter().any(on_background) || together(inner, outer, "inside")
        }
        _ => scene.in_reading_order().iter().any(on_background),
    }
}

/// By the upper half of the names' 64-bit FNV-1a.
fn one_in_ten(names: &[&str]) -> bool {
    let hash = names
        .join("|")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::unseen;

    #[test]
    fn it_is_what_the_training_left_out() {
        // As `held_out` says it.
        for (prompt, expected) in UNSEEN {
            assert_eq!(unseen(&prompt.parse().unwrap()), expected, "{prompt}");
        }
    }

    const UNSEEN: [(&str, bool); 12] = [
        ("a green diamond inside a yellow square on a gray background", true),
        ("a green moon over a purple sea under a yellow sky", false),
        ("a large striped blue and purple square on a white background", false),
        ("a large striped white and red triangle right of a small red heart on an orange background", true),
        ("a red circle, an orange heart and a yellow arrow on a black background", false),
        ("a red square inside a gray diamond on a purple background", false),
        ("a small yellow moon on an orange background", true),
        ("a white sun over green mountains under a black sky", true),
        ("a yellow diamond, a black square, a green square and a white arrow on an orange background", true),
        ("an outlined green heart right of a small purple star on an orange background", false),
        ("three green circles on a yellow background", false),
        ("three purple squares on a blue background", true),
    ];
}
