//! Finds a picture's background and the regions that stand out from it.

use image::RgbImage;

use super::mask::Mask;
use crate::scenes::Colour;

/// Pixels along each side that count as border.
const BORDER: u32 = 3;
/// A pixel this near to the background's colour (Euclidean, in levels of 255) belongs to it, whatever else it is near to.
const BACKGROUND_DISTANCE: f64 = 45.0;
/// Regions below this many pixels are specks. The smallest object, a small star, covers about 270.
const SMALLEST_REGION: usize = 90;
/// How far, in pixels, the blurred edge reaches into an object; and, from the preferred one on, how many pixels must be left
/// inside of it to tell the colour.
const CORES: [(usize, usize); 2] = [(3, 25), (1, 10)];

/// A picture, taken apart.
pub struct Segments {
    /// The most frequent colour along the border.
    pub background: Colour,
    /// The part of the border that has it.
    pub plain_border: f64,
    /// What stands out from the background.
    pub regions: Vec<Region>,
}

/// A connected part of the picture that is not background.
pub struct Region {
    /// Where it is.
    pub mask: Mask,
    /// The most frequent colour inside, away from the edge.
    pub colour: Colour,
}

/// Takes a picture apart.
pub fn segment(picture: &RgbImage) -> Segments {
    let (width, height) = picture.dimensions();
    let nearest: Vec<usize> = picture.pixels().map(|pixel| nearest_colour(pixel.0)).collect();

    let on_border = |x, y| x < BORDER || y < BORDER || x + BORDER >= width || y + BORDER >= height;
    let border: Vec<usize> = picture
        .enumerate_pixels()
        .zip(&nearest)
        .filter_map(|((x, y, _), &colour)| on_border(x, y).then_some(colour))
        .collect();
    let (background, count) = most_frequent(border.iter().copied());

    let stands_out = picture.pixels().zip(&nearest).map(|(pixel, &colour)| {
        colour != background && distance(pixel.0, Colour::ALL[background].rgb()) > BACKGROUND_DISTANCE
    });
    // Opening by one pixel removes lines and dust that a blurred edge leaves.
    let foreground = Mask::new(width as usize, stands_out.collect()).eroded(1).dilated(1);
    let regions = foreground
        .components()
        .into_iter()
        .filter(|mask| mask.area() >= SMALLEST_REGION)
        .map(|mask| {
            let core = core_of(&mask);
            let (colour, _) = most_frequent(core.pixels().map(|index| nearest[index]));
            Region { mask, colour: Colour::ALL[colour] }
        })
        .collect();
    Segments { background: Colour::ALL[background], plain_border: count as f64 / border.len().max(1) as f64, regions }
}

/// A region without its edge, as far as enough of it is left.
fn core_of(mask: &Mask) -> Mask {
    CORES
        .iter()
        .map(|&(edge, enough)| (mask.eroded(edge), enough))
        .find(|(core, enough)| core.area() >= *enough)
        .map_or_else(|| mask.clone(), |(core, _)| core)
}

/// The place in [`Colour::ALL`] of the colour nearest to a pixel.
fn nearest_colour(pixel: [u8; 3]) -> usize {
    let mut best = (f64::INFINITY, 0);
    for (index, colour) in Colour::ALL.iter().enumerate() {
        let distance = distance(pixel, colour.rgb());
        if distance < best.0 {
            best = (distance, index);
        }
    }
    best.1
}

fn distance(a: [u8; 3], b: [u8; 3]) -> f64 {
    a.iter().zip(b).map(|(&a, b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

/// The most frequent colour, the first of several in [`Colour::ALL`], and how often it occurs.
fn most_frequent(colours: impl Iterator<Item = usize>) -> (usize, usize) {
    let mut counts = [0; Colour::ALL.len()];
    for colour in colours {
        counts[colour] += 1;
    }
    let mut best = (0, 0);
    for (colour, &count) in counts.iter().enumerate() {
        if count > best.1 {
            best = (colour, count);
        }
    }
    best
}
