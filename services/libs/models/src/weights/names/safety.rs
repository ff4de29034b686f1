//! The safety checker: transformers saves its tower under `vision_model.vision_model.`, and lately with less.

/// Whether a tensor, by its name in the file, is the tower's or its projection's.
pub(super) fn is_of_tower(name: &str) -> bool {
    let constant = name.ends_with("embeddings.position_ids");
    !constant && (name.starts_with("vision_model.") || name.starts_with("visual_projection."))
}

/// A name without the prefixes of the tower.
pub(super) fn without_prefix(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("vision_model.") {
        name = rest;
    }
    name
}

/// A name of today as the checker's own file has it: the tower under both of its prefixes.
pub(super) fn with_prefix(name: &str) -> String {
    let outside = ["visual_projection.", "concept_embeds", "special_care_embeds"];
    let of_tower = !outside.iter().any(|prefix| name.starts_with(prefix));
    if of_tower { format!("vision_model.vision_model.{name}") } else { name.to_owned() }
}
