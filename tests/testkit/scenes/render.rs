//! True pictures of scenes: what the pocket model should have drawn (`deploy/models/pocket/train/world/render.py`).

use image::{Rgb, RgbImage};

use super::outline::Outline;
use super::{Arrangement, Colour, Fill, Object, SIDE, Scene, Size};

/// Samples along each side of a pixel, for smooth edges.
const SUPERSAMPLING: u32 = 4;
/// Stripes and dots repeat after so many pixels, from the picture's corner on.
const PERIOD: f64 = 16.0;
/// A dot's radius in pixels.
const DOT: f64 = 3.6;

/// An object at its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// What it is.
    pub object: Object,
    /// Its centre, in pixels from the left.
    pub x: f64,
    /// Its centre, in pixels from the top.
    pub y: f64,
    /// Its radius in pixels.
    pub radius: f64,
}

/// Paints a scene whose objects stand at these places, in reading order: [`SIDE`] × [`SIDE`] pixels.
pub fn render(scene: &Scene, objects: &[Placed]) -> RgbImage {
    let mut picture = RgbImage::from_pixel(SIDE, SIDE, Rgb(scene.background.rgb()));
    // What is inside of something is painted last.
    for placed in objects.iter().rev() {
        paint_object(&mut picture, placed);
    }
    if let Arrangement::Landscape { land, land_colour, .. } = scene.arrangement {
        let ground = Outline::of_land(land);
        paint(&mut picture, land_colour, |x, y| ground.contains(x, y));
    }
    picture
}

fn paint_object(picture: &mut RgbImage, placed: &Placed) {
    let Object { size, fill, colour, shape } = placed.object;
    let (outline, hole) = (Outline::of(shape), Outline::hole(shape));
    let at = |x: f64, y: f64| ((x - placed.x) / placed.radius, (y - placed.y) / placed.radius);
    let inside = |x: f64, y: f64| {
        let (x, y) = at(x, y);
        outline.contains(x, y) && !hole.as_ref().is_some_and(|hole| hole.contains(x, y))
    };
    match fill {
        Fill::Outlined => paint(picture, colour, |x, y| {
            let (unit_x, unit_y) = at(x, y);
            inside(x, y) && outline.distance(unit_x, unit_y) * placed.radius <= line(size)
        }),
        Fill::Plain | Fill::Striped(_) | Fill::Dotted(_) => paint(picture, colour, inside),
    }
    match fill {
        Fill::Striped(second) => paint(picture, second, |x, y| inside(x, y) && y.rem_euclid(PERIOD) >= PERIOD / 2.0),
        Fill::Dotted(second) => paint(picture, second, |x, y| inside(x, y) && is_dot(x, y)),
        Fill::Plain | Fill::Outlined => {}
    }
}

/// The width of an outline in pixels.
fn line(size: Option<Size>) -> f64 {
    match size {
        Some(Size::Small) => 4.0,
        None => 4.5,
        Some(Size::Large) => 5.0,
    }
}

/// Dots stand as the black fields of a chessboard.
fn is_dot(x: f64, y: f64) -> bool {
    let half = PERIOD / 2.0;
    let odd = (x / half).floor() + (y / half).floor();
    odd.rem_euclid(2.0) == 0.0 && (x.rem_euclid(half) - half / 2.0).hypot(y.rem_euclid(half) - half / 2.0) <= DOT
}

/// Paints what lies `inside`, with smooth edges.
fn paint(picture: &mut RgbImage, colour: Colour, inside: impl Fn(f64, f64) -> bool) {
    let sample = |pixel: u32, index: u32| f64::from(pixel) + (f64::from(index) + 0.5) / f64::from(SUPERSAMPLING);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let hits = (0..SUPERSAMPLING)
            .flat_map(|row| (0..SUPERSAMPLING).map(move |column| (column, row)))
            .filter(|&(column, row)| inside(sample(x, column), sample(y, row)))
            .count();
        let coverage = hits as f64 / f64::from(SUPERSAMPLING * SUPERSAMPLING);
        for (channel, colour) in pixel.0.iter_mut().zip(colour.rgb()) {
            let below = f64::from(*channel);
            *channel = (below + coverage * (f64::from(colour) - below)).round() as u8;
        }
    }
}
