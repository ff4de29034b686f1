//! Weighted text as windows of the text tower, as AUTOMATIC1111's web UI 1.10 fills them (`tokenize_line` of its
//! `modules/sd_hijack_clip.py`).
//!
//! Where a window is full and a comma is near its end, what stands behind the comma goes into the next one as a whole. Vectors of an
//! inversion stay together; moved behind a comma they keep their meaning, which there they lose.

use super::syntax::Segment;
use super::{Prompt, Window};
use crate::tokenizer::{Tokenizer, tail};

/// How many tokens behind a comma are moved: that web UI's `comma_padding_backtrack`.
const COMMA_REACH: usize = 20;

/// A place in a window, and where it comes from.
#[derive(Clone, Copy)]
struct Place {
    id: u32,
    weight: f32,
    segment: usize,
    /// Byte of the segment's text.
    start: usize,
}

/// Windows that are being filled, each of at most `room` places.
struct Filling {
    room: usize,
    full: Vec<Vec<Place>>,
    current: Vec<Place>,
    /// Where in the current window the last comma stands.
    comma: Option<usize>,
}

impl Filling {
    fn next_window(&mut self) {
        self.full.push(std::mem::take(&mut self.current));
        self.comma = None;
    }

    /// Makes room for one place more, behind a near comma if there is one.
    fn make_room(&mut self) {
        if self.current.len() < self.room {
            return;
        }
        let moved = match self.comma {
            Some(comma) if self.current.len() - comma <= COMMA_REACH => self.current.split_off(comma + 1),
            _ => Vec::new(),
        };
        self.next_window();
        self.current = moved;
    }
}

/// `segments` as windows, at most `most` of them; what found no place in them is told.
pub(super) fn windows(tokenizer: &Tokenizer, segments: &[Segment], most: usize) -> Prompt {
    let mut filling = Filling { room: tokenizer.length() - 2, full: Vec::new(), current: Vec::new(), comma: None };
    let mut token_count = 0;
    for (index, segment) in segments.iter().enumerate() {
        if segment.is_break() {
            filling.next_window();
            continue;
        }
        for piece in tokenizer.pieces(&segment.text) {
            if tokenizer.is_comma(&piece) {
                filling.comma = Some(filling.current.len());
                if filling.current.len() == filling.room {
                    filling.next_window();
                }
            } else {
                filling.make_room();
            }
            if filling.current.len() + piece.ids.len() > filling.room {
                filling.next_window();
            }
            token_count += piece.ids.len();
            let (weight, start) = (segment.weight as f32, piece.start);
            filling.current.extend(piece.ids.map(|id| Place { id, weight, segment: index, start }));
        }
    }
    if !filling.current.is_empty() || filling.full.is_empty() {
        filling.next_window();
    }
    let mut left_out = filling.full.iter().skip(most).flatten().peekable();
    let dropped_text = left_out.peek().map_or_else(String::new, |place| behind(segments, **place));
    let dropped_tokens = left_out.count();
    let windows = filling.full.iter().take(most).map(|places| window(tokenizer, places)).collect();
    Prompt { windows, token_count, dropped_text, dropped_tokens }
}

/// What is written from a place on.
fn behind(segments: &[Segment], from: Place) -> String {
    let (first, rest) = (&segments[from.segment], &segments[from.segment + 1..]);
    let rest = rest.iter().map(|segment| if segment.is_break() { " " } else { &segment.text });
    let text: String = std::iter::once(tail(&first.text, from.start)).chain(rest).collect();
    text.trim().to_owned()
}

fn window(tokenizer: &Tokenizer, places: &[Place]) -> Window {
    let tokens: Vec<u32> = places.iter().map(|place| place.id).collect();
    let mut weights = vec![1.0; tokenizer.length()];
    weights[1..].iter_mut().zip(places).for_each(|(weight, place)| *weight = place.weight);
    // That web UI fills up with the end token and puts the padding token in its place behind the first one, which comes to this.
    let ids = tokenizer.framed(&tokens);
    let is_plain = weights.iter().all(|weight| *weight == 1.0);
    Window { ids, weights: (!is_plain).then_some(weights) }
}
