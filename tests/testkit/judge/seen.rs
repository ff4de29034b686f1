//! What the judge sees in a picture: its background and its objects, as the prompt's kind of scene says where to look.

use image::RgbImage;

use super::mask::Mask;
use super::segment::{Looked, Region};
use super::template;
use crate::scenes::{Axis, Colour, Fill, Land, SIDE, Shape, Size};

/// Radii up to here are small. Small objects are drawn with 14 to 16 pixels, those without a size word with 20 to 23.
const SMALL_BELOW: f64 = 18.5;
/// Radii from here on are large. Large objects are drawn with 27 to 29.5 pixels.
const LARGE_ABOVE: f64 = 24.5;
/// Rows at the top that are sky, and at the bottom that are land.
const EDGE: u32 = 12;
/// How far, in pixels, the blurred edge of something large reaches into it.
const BLURRED: usize = 3;

/// A picture, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The most frequent colour along the border; of a landscape, along the top.
    pub background: Colour,
    /// The part of the border that has it.
    pub plain_border: f64,
    /// The objects, from left to right, from top to bottom or row by row; the inner one before the outer one.
    pub objects: Vec<SeenObject>,
    /// A landscape's ground.
    pub ground: Option<(Colour, Option<Land>)>,
}

/// One object in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenObject {
    /// Its colour well inside its edge, the more frequent one of two.
    pub colour: Colour,
    /// How its inside looks.
    pub fill: Fill,
    /// The shape that fits it best, if one fits well.
    pub shape: Option<Shape>,
    /// Its centre of mass, in pixels from the left.
    pub x: f64,
    /// Its centre of mass, in pixels from the top.
    pub y: f64,
    /// Its area in pixels, holes included.
    pub area: usize,
}

impl Seen {
    /// Objects that stand on a background.
    pub fn standing(picture: &RgbImage, order: Axis) -> Self {
        let looked = Looked::at(picture);
        let (background, plain_border) = looked.background();
        let mut objects: Vec<_> = looked.regions(background, None).iter().map(SeenObject::of).collect();
        // Four objects stand in two rows.
        let row =
            |object: &SeenObject| if order == Axis::Square { (object.y / f64::from(SIDE) * 2.0).floor() } else { 0.0 };
        let place = |object: &SeenObject| (row(object), if order == Axis::Vertical { object.y } else { object.x });
        objects.sort_by(|a, b| {
            let ((row_a, a), (row_b, b)) = (place(a), place(b));
            row_a.total_cmp(&row_b).then(a.total_cmp(&b))
        });
        Self { background, plain_border, objects, ground: None }
    }

    /// An object on a background, and what is inside of it.
    pub fn inside(picture: &RgbImage) -> Self {
        let looked = Looked::at(picture);
        let (background, plain_border) = looked.background();
        let outer = looked.regions(background, None);
        let mut objects = Vec::new();
        for region in &outer {
            let area = region.mask.filled();
            // Most of it is the outer object's own.
            let rim = area.eroded(BLURRED).without(&area.eroded(2 * BLURRED));
            let colour = looked.colour_of(&rim);
            objects.extend(looked.regions(colour, Some(&area.eroded(BLURRED))).iter().map(SeenObject::of));
            objects.push(SeenObject::of(&Region { mask: area, colour, fill: Fill::Plain }));
        }
        Self { background, plain_border, objects, ground: None }
    }

    /// A light in the sky over some land.
    pub fn landscape(picture: &RgbImage) -> Self {
        let looked = Looked::at(picture);
        let (background, plain_border) = looked.most_frequent(|_, y| y < EDGE);
        let (land_colour, _) = looked.most_frequent(|_, y| y + EDGE >= SIDE);
        let parts = looked.pixels_of(land_colour).components();
        let ground = parts.into_iter().max_by_key(Mask::area);
        let land = ground.as_ref().and_then(template::best_land);
        // Above the ground's blurred edge.
        let sky = ground.map(|ground| ground.filled().dilated(BLURRED).inverted());
        let objects = looked.regions(background, sky.as_ref()).iter().map(SeenObject::of).collect();
        Self { background, plain_border, objects, ground: Some((land_colour, land)) }
    }
}

impl SeenObject {
    fn of(region: &Region) -> Self {
        let form = template::form(&region.mask);
        let fill = match region.fill {
            Fill::Plain if form.outlined => Fill::Outlined,
            fill => fill,
        };
        let (x, y) = region.mask.centroid();
        Self { colour: region.colour, fill, shape: form.shape, x, y, area: form.area }
    }

    /// Whether it has `wanted`'s size word, judged by the radius that an object of that shape and this area has.
    pub fn has_size(&self, shape: Shape, wanted: Size) -> bool {
        let radius = template::radius_of(shape, self.area);
        match wanted {
            Size::Small => radius < SMALL_BELOW,
            Size::Large => radius > LARGE_ABOVE,
        }
    }
}
