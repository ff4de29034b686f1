//! Labels of a grid, drawn with letters of five by seven dots and two below the line: printable ASCII, each dot a square of whole
//! pixels.

use image::{Rgb, RgbImage};

/// Sixteen letters side by side from U+0020 on, nine lines high, a blank line between; `#` is a dot. Drawn for Darkroom and in the
/// public domain.
const LETTERS: &str = include_str!("font.txt");
const FIRST: u32 = 0x20;
const LAST: u32 = 0x7e;
const IN_A_ROW: u32 = 16;
const WIDTH: u32 = 5;
const LINES: u32 = 9;
/// Dots from a letter's top to the line that it stands on; `g` and `p` have two more below.
pub(super) const HEIGHT: u32 = 7;
/// Dots from one letter to the next.
const ADVANCE: u32 = WIDTH + 1;
/// What a cut text ends with.
const CUT: &str = "..";

/// The pixels that a text takes, each dot `dot` of them wide.
pub(super) fn width(text: &str, dot: u32) -> u32 {
    let letters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    letters.saturating_mul(ADVANCE).saturating_sub(1).saturating_mul(dot)
}

/// The text, cut where it is wider than `most` pixels.
pub(super) fn fitted(text: &str, most: u32, dot: u32) -> String {
    if width(text, dot) <= most {
        return text.to_owned();
    }
    let letters = (most / dot.max(1) + 1) / ADVANCE;
    let kept = (letters as usize).saturating_sub(CUT.len());
    text.chars().take(kept).chain(CUT.chars()).take(letters as usize).collect()
}

/// Draws a text with its upper left corner at `(x, y)`. What lies outside of the picture is left out, and a question mark stands
/// for what is not printable ASCII.
pub(super) fn draw(picture: &mut RgbImage, text: &str, (x, y): (u32, u32), dot: u32, colour: Rgb<u8>) {
    for (place, letter) in (0..).zip(text.chars()) {
        for (across, down) in dots(letter) {
            let (left, top) = (x + (place * ADVANCE + across) * dot, y + down * dot);
            for (x, y) in (top..top + dot).flat_map(|y| (left..left + dot).map(move |x| (x, y))) {
                if let Some(pixel) = picture.get_pixel_mut_checked(x, y) {
                    *pixel = colour;
                }
            }
        }
    }
}

/// Where a letter has dots: across and down.
fn dots(letter: char) -> impl Iterator<Item = (u32, u32)> {
    let code = Some(u32::from(letter)).filter(|code| (FIRST..=LAST).contains(code)).unwrap_or(u32::from('?'));
    let (block, place) = ((code - FIRST) / IN_A_ROW, (code - FIRST) % IN_A_ROW);
    (0..LINES).flat_map(move |down| {
        let line = LETTERS.lines().nth((block * (LINES + 1) + down) as usize).unwrap_or_default();
        let marks = line.bytes().skip((place * ADVANCE) as usize).take(WIDTH as usize);
        (0..).zip(marks).filter(|(_, mark)| *mark == b'#').map(move |(across, _)| (across, down))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_printable_letter_is_drawn_and_no_two_alike() {
        let shapes: BTreeSet<Vec<(u32, u32)>> = (' '..='~').map(|letter| dots(letter).collect()).collect();
        assert_eq!(shapes.len(), 95);
        assert_eq!(dots(' ').count(), 0);
        assert!(dots('ä').eq(dots('?')));
        // All lines are whole: sixteen letters, fifteen in the last block.
        for (number, line) in LETTERS.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            assert_eq!(line.len(), if number < 50 { 95 } else { 89 }, "line {}", number + 1);
        }
    }

    #[test]
    fn a_text_is_cut_to_its_place() {
        assert_eq!(width("seed 42", 2), (7 * 6 - 1) * 2);
        assert_eq!(fitted("seed 42", 41, 1), "seed 42");
        assert_eq!(fitted("seed 42", 40, 1), "seed..");
        assert_eq!(fitted("seed 42", 6, 1), ".");
        assert_eq!(fitted("seed 42", 3, 1), "");
        for (most, dot) in [(64, 1), (100, 2), (127, 3), (5, 9)] {
            assert!(width(&fitted("dpmpp_2m_sde and more", most, dot), dot) <= most, "{most} {dot}");
        }
    }

    #[test]
    fn a_dot_is_a_square_and_the_edge_cuts() {
        let mut picture = RgbImage::new(9, 14);
        draw(&mut picture, "L", (0, 0), 2, Rgb([255; 3]));
        let expected = |x: u32, y: u32| if x < 2 || y >= 12 { 255 } else { 0 };
        for (x, y, pixel) in picture.enumerate_pixels() {
            assert_eq!(pixel.0, [expected(x, y); 3], "{x} {y}");
        }
    }
}
