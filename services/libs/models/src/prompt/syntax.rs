//! Brackets that weigh words, as AUTOMATIC1111's web UI 1.10 reads them (`parse_prompt_attention` of its `modules/prompt_parser.py`).
//!
//! | written | weight |
//! | --- | --- |
//! | `(word)` | × 1.1 |
//! | `(word:1.3)` | × 1.3 |
//! | `[word]` | ÷ 1.1 |
//! | `\(`, `\)`, `\[`, `\]`, `\\` | the sign itself |
//! | `BREAK` | the next word begins another window of the text tower |
//!
//! Brackets nest, and one that is never closed reaches to the end. Its prompt editing (`[a:b:0.5]`, `[a|b]`) and `AND` are not read: they
//! change the text from step to step, and stand here for what is written.

use super::PromptError;

/// What a pair of round brackets multiplies with; square ones divide by it.
const BRACKET: f64 = 1.1;
/// The most that a word may weigh, either way: brackets multiply without an end.
const MOST_WEIGHT: f64 = 1000.0;
/// What begins another window, where it is a word of its own.
const BREAK: &str = "BREAK";
/// The weight that marks a [`BREAK`]. It is multiplied by the brackets round it like any other, and is then no longer one but a word.
const BREAK_WEIGHT: f64 = -1.0;

/// Text of one weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub(super) text: String,
    pub(super) weight: f64,
}

impl Segment {
    fn new(text: impl Into<String>, weight: f64) -> Self {
        Self { text: text.into(), weight }
    }

    /// Whether it is no text, but the end of a window.
    pub(super) fn is_break(&self) -> bool {
        self.text == BREAK && self.weight == BREAK_WEIGHT
    }
}

/// The segments of a prompt, neighbours of equal weight merged. There is always one.
pub(super) fn segments(prompt: &str) -> Result<Vec<Segment>, PromptError> {
    let mut found = Vec::new();
    // Where in `found` each open bracket begins.
    let (mut round, mut square) = (Vec::new(), Vec::new());
    let mut rest = prompt;
    while !rest.is_empty() {
        let (sign, behind) = next(rest);
        rest = behind;
        match sign {
            Sign::Escaped(text) => found.push(Segment::new(text, 1.0)),
            Sign::Text("(") => round.push(found.len()),
            Sign::Text("[") => square.push(found.len()),
            Sign::Weight(number, whole) => match round.pop() {
                Some(start) => multiply(&mut found, start, weight(number)?),
                None => push_text(&mut found, whole),
            },
            Sign::Text(text) => match text {
                ")" if let Some(start) = round.pop() => multiply(&mut found, start, BRACKET),
                "]" if let Some(start) = square.pop() => multiply(&mut found, start, 1.0 / BRACKET),
                _ => push_text(&mut found, text),
            },
        }
    }
    round.into_iter().for_each(|start| multiply(&mut found, start, BRACKET));
    square.into_iter().for_each(|start| multiply(&mut found, start, 1.0 / BRACKET));
    match found.iter().find(|segment| segment.weight.abs() > MOST_WEIGHT) {
        Some(Segment { weight, .. }) => Err(PromptError::Weight(format!("{weight:e}"))),
        None => Ok(merged(found)),
    }
}

/// The smallest parts of a prompt.
enum Sign<'a> {
    /// A sign that a backslash stands before; a backslash before anything else is nothing.
    Escaped(&'a str),
    /// The number of `: 1.3 )`, and all of it.
    Weight(&'a str, &'a str),
    /// A bracket, a colon, or text without any of them.
    Text(&'a str),
}

/// The first sign of a text that is not empty, and what is behind it.
fn next(text: &str) -> (Sign<'_>, &str) {
    const SIGNS: [char; 6] = ['\\', '(', ')', '[', ']', ':'];
    if let Some(behind) = text.strip_prefix('\\') {
        let len = if behind.starts_with(['(', ')', '[', ']', '\\']) { 1 } else { 0 };
        let (sign, behind) = behind.split_at(len);
        return (Sign::Escaped(sign), behind);
    }
    if let Some((number, len)) = weight_behind_colon(text) {
        let (whole, behind) = text.split_at(len);
        return (Sign::Weight(number, whole), behind);
    }
    // Signs are one byte long.
    let len = text.find(SIGNS).map_or(text.len(), |at| at.max(1));
    let (text, behind) = text.split_at(len);
    (Sign::Text(text), behind)
}

/// `:\s*([+-]?[.\d]+)\s*\)` at the start of `text`: the number, and the length of it all.
fn weight_behind_colon(text: &str) -> Option<(&str, usize)> {
    let inside = text.strip_prefix(':')?.trim_start_matches(is_space);
    let unsigned = inside.strip_prefix(['+', '-']).unwrap_or(inside);
    let behind = unsigned.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let number = &inside[..inside.len() - behind.len()];
    let closed = behind.trim_start_matches(is_space).strip_prefix(')')?;
    (unsigned.len() > behind.len()).then(|| (number, text.len() - closed.len()))
}

fn weight(number: &str) -> Result<f64, PromptError> {
    let weight = number.parse::<f64>().ok().filter(|weight| weight.abs() <= MOST_WEIGHT);
    weight.ok_or_else(|| PromptError::Weight(number.to_owned()))
}

/// White space as Python's expressions know it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn multiply(found: &mut [Segment], start: usize, factor: f64) {
    found[start..].iter_mut().for_each(|segment| segment.weight *= factor);
}

/// Text, cut at each [`BREAK`] that is a word of its own, with the white space round it.
fn push_text(found: &mut Vec<Segment>, text: &str) {
    let (mut rest, mut searched) = (text, 0);
    while let Some(at) = rest[searched..].find(BREAK).map(|at| searched + at) {
        let (before, behind) = (&rest[..at], &rest[at + BREAK.len()..]);
        searched = at + BREAK.len();
        if before.ends_with(is_in_word) || behind.starts_with(is_in_word) {
            continue;
        }
        found.push(Segment::new(before.trim_end_matches(is_space), 1.0));
        found.push(Segment::new(BREAK, BREAK_WEIGHT));
        (rest, searched) = (behind.trim_start_matches(is_space), 0);
    }
    found.push(Segment::new(rest, 1.0));
}

fn merged(found: Vec<Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in found {
        match merged.last_mut() {
            Some(last) if last.weight == segment.weight => last.text.push_str(&segment.text),
            _ => merged.push(segment),
        }
    }
    if merged.is_empty() { vec![Segment::new("", 1.0)] } else { merged }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prompt: &str) -> Vec<(String, f64)> {
        let segments = segments(prompt).unwrap();
        segments.into_iter().map(|Segment { text, weight }| (text, (weight * 1e9).round() / 1e9)).collect()
    }

    fn is(prompt: &str, expected: &[(&str, f64)]) {
        let expected: Vec<_> = expected.iter().map(|(text, weight)| ((*text).to_owned(), *weight)).collect();
        assert_eq!(read(prompt), expected, "{prompt:?}");
    }

    #[test]
    fn brackets_multiply_and_nest() {
        is("", &[("", 1.0)]);
        is("a (b) c", &[("a ", 1.0), ("b", 1.1), (" c", 1.0)]);
        is("((b))[c]", &[("b", 1.21), ("c", 0.909_090_909)]);
        is("(a (b:2) c:0.5)", &[("a ", 0.5), ("b", 1.0), (" c", 0.5)]);
        is("a(b: -1.5 )", &[("a", 1.0), ("b", -1.5)]);
    }

    #[test]
    fn what_is_not_closed_reaches_to_the_end_and_what_is_not_open_is_text() {
        is("a (b [c", &[("a ", 1.0), ("b ", 1.1), ("c", 1.0)]);
        is("a) b] c:1.3)", &[("a) b] c:1.3)", 1.0)]);
        is("(a:b:1.2)", &[("a:b", 1.2)]);
        is("[a:1.3]", &[("a:1.3", 0.909_090_909)]);
    }

    #[test]
    fn a_backslash_takes_a_signs_meaning_away() {
        is(r"\(a\) \[b\] c\\d e\f", &[(r"(a) [b] c\d ef", 1.0)]);
        is(r"(a\))", &[("a)", 1.1)]);
        is("a\\", &[("a", 1.0)]);
    }

    #[test]
    fn a_break_is_a_word_of_its_own_outside_of_brackets() {
        is("a BREAK b", &[("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]);
        is("aBREAK BREAKb BREAK_", &[("aBREAK BREAKb BREAK_", 1.0)]);
        is("BREAK BREAK", &[("", 1.0), ("BREAK", -1.0), ("", 1.0), ("BREAK", -1.0), ("", 1.0)]);
        is("(a BREAK b)", &[("a", 1.1), ("BREAK", -1.1), ("b", 1.1)]);
        assert!(segments("a BREAK b").unwrap()[1].is_break());
        assert!(!segments("(a BREAK b)").unwrap()[1].is_break());
    }

    #[test]
    fn weights_that_are_no_numbers_or_too_large_are_refused() {
        for (prompt, shown) in [("(a:1.2.3)", "1.2.3"), ("(a:.)", "."), ("(a:1001)", "1001"), ("(a:-9999)", "-9999")] {
            assert_eq!(segments(prompt).unwrap_err(), PromptError::Weight(shown.into()), "{prompt:?}");
        }
        let deep = "(".repeat(100);
        let PromptError::Weight(shown) = segments(&format!("{deep}a")).unwrap_err();
        assert!(shown.starts_with("1.3780612339") && shown.ends_with("e4"), "{shown}");
        assert!(segments(&"(".repeat(70)).is_ok());
    }
}
