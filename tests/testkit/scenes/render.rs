//! True pictures of scenes: what the pocket model should have drawn.

use image::{Rgb, RgbImage};

use super::outline::Outline;
use super::{Colour, Object, SIDE};

/// Samples along each side of a pixel, for smooth edges.
const SUPERSAMPLING: u32 = 4;

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

/// Paints the objects, the later over the earlier, on a plain background of [`SIDE`] × [`SIDE`] pixels.
pub fn render(background: Colour, objects: &[Placed]) -> RgbImage {
    let mut picture = RgbImage::from_pixel(SIDE, SIDE, Rgb(background.rgb()));
    for placed in objects {
        let outline = Outline::of(placed.object.shape);
        for (x, y, pixel) in picture.enumerate_pixels_mut() {
            let coverage = coverage(&outline, placed, x, y);
            for (channel, colour) in pixel.0.iter_mut().zip(placed.object.colour.rgb()) {
                let below = f64::from(*channel);
                *channel = (below + coverage * (f64::from(colour) - below)).round() as u8;
            }
        }
    }
    picture
}

/// The part of a pixel that an object covers, 0 to 1.
fn coverage(outline: &Outline, placed: &Placed, x: u32, y: u32) -> f64 {
    let sample = |pixel: u32, index: u32, centre: f64| {
        (f64::from(pixel) + (f64::from(index) + 0.5) / f64::from(SUPERSAMPLING) - centre) / placed.radius
    };
    let hits = (0..SUPERSAMPLING)
        .flat_map(|row| (0..SUPERSAMPLING).map(move |column| (column, row)))
        .filter(|&(column, row)| outline.contains(sample(x, column, placed.x), sample(y, row, placed.y)))
        .count();
    hits as f64 / f64::from(SUPERSAMPLING * SUPERSAMPLING)
}
