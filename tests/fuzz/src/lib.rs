//! What the fuzz targets share: inputs that are told apart by their first byte, and writers of the formats that they break.

pub mod pickle;
pub mod rewrite;
pub mod torch;

/// Longest message that any refusal may have: what a client or a file brings is shown, and never floods.
pub const MAX_MESSAGE: usize = 2000;

/// Splits an input into its way in, one of `ways`, and the rest.
///
/// So one corpus holds several forms of one thing: raw bytes, which seeds and other programs can write, and structured ones.
#[must_use]
pub fn way_in(input: &[u8], ways: u8) -> Option<(u8, &[u8])> {
    let (first, rest) = input.split_first()?;
    Some((first % ways, rest))
}

/// A refusal's text, once it was seen to name `subject` and to be of a length that fits into a log and into a gRPC header.
///
/// # Panics
/// When it does not.
pub fn check_message(subject: &str, message: &str) {
    assert!(message.contains(subject), "the message does not name {subject}: {message}");
    assert!(
        message.len() <= MAX_MESSAGE,
        "a message of {} bytes: {}…",
        message.len(),
        message.chars().take(100).collect::<String>()
    );
}
