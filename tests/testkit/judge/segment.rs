//! Finds a picture's background and the regions that stand out from it.

use image::RgbImage;

use super::mask::Mask;
use crate::scenes::{Colour, Fill};

/// Pixels along each side that count as border.
const BORDER: u32 = 3;
/// A pixel this near to the background's colour (Euclidean, in levels of 255) belongs to it, whatever else it is near to.
const BACKGROUND_DISTANCE: f64 = 45.0;
/// Regions below this many pixels are specks. The smallest object, a small star, covers about 270.
const SMALLEST_REGION: usize = 90;
/// How far, in pixels, the blurred edge reaches into an object; and, from the preferred one on, how many pixels must be left
/// inside of it to tell the colour.
const CORES: [(usize, usize); 2] = [(3, 25), (1, 10)];
/// The same, to look for a second colour: only objects with this much room have one.
const PATTERN_CORE: (usize, usize) = (2, 120);
/// The part of such a core that the second colour has at least. Dots have a third, half of it edges.
const SECOND: f64 = 0.12;
/// The part of a row that is of one of two colours, in the mean over all rows: nearly all of it with stripes, which lie along the rows;
/// two thirds with dots.
const STRIPED_ROWS: f64 = 0.82;

/// A picture with the nearest colour of each pixel.
pub struct Looked<'a> {
    picture: &'a RgbImage,
    nearest: Vec<Colour>,
}

/// A connected part of the picture that is not background.
pub struct Region {
    /// Where it is.
    pub mask: Mask,
    /// The most frequent colour inside, away from the edge.
    pub colour: Colour,
    /// Plain, or a pattern of two colours. An outline is told by its hole: [`super::template`].
    pub fill: Fill,
}

impl<'a> Looked<'a> {
    /// Looks at every pixel.
    pub fn at(picture: &'a RgbImage) -> Self {
        Self { picture, nearest: picture.pixels().map(|pixel| nearest_colour(pixel.0)).collect() }
    }

    /// The most frequent colour along the picture's border, and the part of the border that has it.
    pub fn background(&self) -> (Colour, f64) {
        let (width, height) = self.picture.dimensions();
        self.most_frequent(|x, y| x < BORDER || y < BORDER || x + BORDER >= width || y + BORDER >= height)
    }

    /// The most frequent colour of some of the pixels, and the part of them that has it.
    pub fn most_frequent(&self, of: impl Fn(u32, u32) -> bool) -> (Colour, f64) {
        let pixels = self.picture.enumerate_pixels().zip(&self.nearest);
        let counts = count(pixels.filter_map(|((x, y, _), &colour)| of(x, y).then_some(colour)));
        let all: usize = counts.iter().map(|(_, count)| count).sum();
        (counts[0].0, counts[0].1 as f64 / all.max(1) as f64)
    }

    /// The pixels of a colour.
    pub fn pixels_of(&self, colour: Colour) -> Mask {
        Mask::new(self.picture.width() as usize, self.nearest.iter().map(|&nearest| nearest == colour).collect())
    }

    /// What stands out from a background; with an area, from what is within it.
    pub fn regions(&self, background: Colour, within: Option<&Mask>) -> Vec<Region> {
        let stands_out =
            self.picture.pixels().zip(&self.nearest).map(|(pixel, &colour)| {
                colour != background && distance(pixel.0, background.rgb()) > BACKGROUND_DISTANCE
            });
        let mut foreground = Mask::new(self.picture.width() as usize, stands_out.collect());
        if let Some(area) = within {
            foreground = foreground.within(area);
        }
        // Closing by one pixel mends what the edges of a pattern look like: mixed, its colours can come near to the background's. Opening
        // by one removes lines and dust that a blurred edge leaves.
        let parts = foreground.dilated(1).eroded(2).dilated(1).components().into_iter();
        parts.filter(|mask| mask.area() >= SMALLEST_REGION).map(|mask| self.region(mask)).collect()
    }

    /// The most frequent colour of an area, away from its edge.
    pub fn colour_of(&self, area: &Mask) -> Colour {
        self.colours(&core_of(area))[0].0
    }

    fn region(&self, mask: Mask) -> Region {
        // A pattern's colours are told by more of it.
        let pattern = self.pattern(&mask.eroded(PATTERN_CORE.0));
        let (colour, fill) = pattern.unwrap_or_else(|| (self.colour_of(&mask), Fill::Plain));
        Region { mask, colour, fill }
    }

    /// The more frequent colour of a pattern, and the pattern with the other one.
    fn pattern(&self, core: &Mask) -> Option<(Colour, Fill)> {
        let area = core.area();
        let colours = self.colours(core);
        let ((first, _), (second, often)) = (colours[0], colours[1]);
        if area < PATTERN_CORE.1 || (often as f64) < SECOND * area as f64 {
            return None;
        }
        let width = self.picture.width() as usize;
        let mut rows = vec![[0_usize; 2]; self.picture.height() as usize];
        for index in core.pixels() {
            for (kind, colour) in [first, second].into_iter().enumerate() {
                rows[index / width][kind] += usize::from(self.nearest[index] == colour);
            }
        }
        let (alike, all) = rows.iter().fold((0, 0), |(alike, all), [a, b]| (alike + a.max(b), all + a + b));
        let striped = alike as f64 >= STRIPED_ROWS * all as f64;
        Some((first, if striped { Fill::Striped(second) } else { Fill::Dotted(second) }))
    }

    fn colours(&self, of: &Mask) -> [(Colour, usize); Colour::ALL.len()] {
        count(of.pixels().map(|index| self.nearest[index]))
    }
}

/// A region without its edge, as far as enough of it is left.
fn core_of(mask: &Mask) -> Mask {
    CORES
        .iter()
        .map(|&(edge, enough)| (mask.eroded(edge), enough))
        .find(|(core, enough)| core.area() >= *enough)
        .map_or_else(|| mask.clone(), |(core, _)| core)
}

/// The colour nearest to a pixel, the first of several in [`Colour::ALL`].
fn nearest_colour(pixel: [u8; 3]) -> Colour {
    let mut best = (f64::INFINITY, Colour::ALL[0]);
    for colour in Colour::ALL {
        let distance = distance(pixel, colour.rgb());
        if distance < best.0 {
            best = (distance, colour);
        }
    }
    best.1
}

fn distance(a: [u8; 3], b: [u8; 3]) -> f64 {
    a.iter().zip(b).map(|(&a, b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

/// Every colour and how often it occurs, the most frequent one first.
fn count(colours: impl Iterator<Item = Colour>) -> [(Colour, usize); Colour::ALL.len()] {
    let mut counts = Colour::ALL.map(|colour| (colour, 0));
    for colour in colours {
        counts[colour as usize].1 += 1;
    }
    // Stable, so that the first of several stays first.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
