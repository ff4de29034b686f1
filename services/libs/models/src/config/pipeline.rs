//! `model_index.json`: which pipeline a folder is, so that other families are refused by name before anything is read.

use super::Fields;
use crate::error::LoadError;

/// Pipelines that hold exactly Stable Diffusion v1's parts.
const SAME_PARTS: [&str; 5] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipelineLegacy",
    "StableDiffusionPipelineSafe",
];

/// Refuses a folder that is not Stable Diffusion v1.
pub(crate) fn check_pipeline(file: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let fields = Fields::parse(file, bytes)?;
    // Absent parts are written as [null, null].
    let present = |part: &str| fields.get(part).is_some_and(|value| value[0].is_string());
    if present("text_encoder_2") {
        return Err(fields.unsupported("text_encoder_2", "Stable Diffusion XL"));
    }
    if present("transformer") {
        return Err(fields.unsupported("transformer", "a diffusion transformer"));
    }
    match fields.text("_class_name")? {
        Some(class) if SAME_PARTS.contains(&class) => Ok(()),
        Some(class) => {
            let what = format!("a {class}; Darkroom runs StableDiffusionPipeline folders of Stable Diffusion v1");
            Err(LoadError::unsupported(fields.file(), what))
        }
        None => Err(fields.wrong("_class_name", SAME_PARTS[0])),
    }
}
