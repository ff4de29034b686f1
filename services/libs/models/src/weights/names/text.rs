//! The text tower: transformers saved it under `text_model.`, and lately does not.

/// A name without the prefix that older releases and whole CLIP models have.
pub(super) fn without_prefix(name: &str) -> &str {
    name.strip_prefix("text_model.").unwrap_or(name)
}
