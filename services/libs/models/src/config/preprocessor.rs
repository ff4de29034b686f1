//! How a picture is prepared for a vision tower: transformers' `CLIPImageProcessor`.

use serde::Serialize;
use serde_json::Value;

use super::Fields;
use crate::error::LoadError;

/// What becomes of a picture before a tower sees it. The steps are fixed: resize, crop, rescale, normalise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreprocessorConfig {
    /// Pixels that the shorter side is resized to; 224.
    pub shortest_edge: usize,
    /// Pixels along a side of the square that is cut from the middle; 224.
    pub crop_size: usize,
    /// Taken from red, green and blue, which run from 0 to 1.
    pub mean: [f32; 3],
    /// What they are then divided by.
    pub std: [f32; 3],
    /// What a byte is multiplied by: 1 / 255.
    pub rescale_factor: f64,
}

/// PIL's number for bicubic resampling.
const BICUBIC: u64 = 3;

impl Default for PreprocessorConfig {
    /// OpenAI's for CLIP.
    fn default() -> Self {
        Self {
            shortest_edge: 224,
            crop_size: 224,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            rescale_factor: 1.0 / 255.0,
        }
    }
}

impl PreprocessorConfig {
    /// Reads and checks `preprocessor_config.json`, of transformers' early releases (sizes are numbers) and late ones (objects).
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for other steps than CLIP's, [`LoadError::Config`] for a value out of range.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let fields = Fields::parse(file, bytes)?;
        for step in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            if !fields.flag(step, true)? {
                return Err(fields.unsupported(step, "another preparation of pictures than CLIP's"));
            }
        }
        fields.only("resample", BICUBIC, "another way of resizing than bicubic")?;
        let default = Self::default();
        let shortest_edge = size(&fields, "size", &["shortest_edge"], default.shortest_edge)?;
        let crop_size = size(&fields, "crop_size", &["height", "width"], default.crop_size)?;
        if crop_size > shortest_edge {
            return Err(fields.wrong("crop_size", format!("at most the size of {shortest_edge}")));
        }
        Ok(Self {
            shortest_edge,
            crop_size,
            mean: colours(&fields, "image_mean", default.mean, 0.0)?,
            std: colours(&fields, "image_std", default.std, 1e-3)?,
            rescale_factor: fields.number("rescale_factor", default.rescale_factor, 1e-6..=1.0)?,
        })
    }
}

/// A number, or an object whose `names` all have one number.
fn size(fields: &Fields<'_>, field: &str, names: &[&str], default: usize) -> Result<usize, LoadError> {
    const SIDES: std::ops::RangeInclusive<usize> = 8..=1024;
    let Some(object) = fields.nested(field) else { return fields.count(field, Some(default), SIDES) };
    let first = object.count(names[0], None, SIDES)?;
    for name in names {
        if object.count(name, None, SIDES)? != first {
            return Err(fields.wrong(field, "a square"));
        }
    }
    Ok(first)
}

/// Three numbers, `least` to 1.
fn colours(fields: &Fields<'_>, field: &str, default: [f32; 3], least: f64) -> Result<[f32; 3], LoadError> {
    let Some(value) = fields.get(field) else { return Ok(default) };
    let number =
        |value: &Value| value.as_f64().filter(|number| (least..=1.0).contains(number)).map(|number| number as f32);
    let three = match value.as_array().map(Vec::as_slice) {
        Some([red, green, blue]) => number(red).zip(number(green)).zip(number(blue)),
        _ => None,
    };
    let ((red, green), blue) = three.ok_or_else(|| fields.wrong(field, format!("three numbers, {least} to 1")))?;
    Ok([red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PreprocessorConfig, LoadError> {
        PreprocessorConfig::from_json("p", json.as_bytes())
    }

    #[test]
    fn both_generations_of_files_are_read() {
        let early = r#"{"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 224,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
        let late = r#"{"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "do_rescale": true,
            "rescale_factor": 0.00392156862745098, "image_processor_type": "CLIPImageProcessor"}"#;
        for json in [early, late, "{}"] {
            assert_eq!(read(json).unwrap(), PreprocessorConfig::default(), "{json}");
        }
    }

    #[test]
    fn another_preparation_is_refused_by_field() {
        for (json, field) in [
            (r#"{"resample": 2}"#, "resample"),
            (r#"{"do_center_crop": false}"#, "do_center_crop"),
            (r#"{"crop_size": 225}"#, "crop_size"),
            (r#"{"crop_size": {"height": 224, "width": 200}}"#, "crop_size"),
            (r#"{"size": {"height": 224}}"#, "shortest_edge"),
            (r#"{"image_std": [0, 1, 1]}"#, "image_std"),
            (r#"{"image_mean": [1, 1]}"#, "image_mean"),
            (r#"{"size": 99999}"#, "size"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(field), "{json}: {error}");
        }
    }
}
