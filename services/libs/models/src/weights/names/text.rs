//! The text tower: transformers saved it under `text_model.`, and lately does not.

/// A name without the prefix that older releases and whole CLIP models have.
pub(super) fn without_prefix(name: &str) -> &str {
    name.strip_prefix("text_model.").unwrap_or(name)
}

/// A name with that prefix, as Stable Diffusion's folders and files have it.
pub(super) fn with_prefix(name: &str) -> String {
    format!("text_model.{}", without_prefix(name))
}
