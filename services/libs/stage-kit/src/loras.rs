//! The LoRAs that a message names, held against those that a stage has read.

use std::path::Path;

use darkroom_engine::ModelError;
use darkroom_models::lora::{LoraUse, Loras, MAX_USES, MAX_WEIGHT};
use darkroom_models::source::ModelSource;
use darkroom_proto::v1;
use darkroom_service_kit::status::{invalid_argument, shown};
use tonic::Status;

use crate::refusal::within;

const FIELD: &str = "loras";

/// Reads the folder that the operator named, if any.
///
/// # Errors
/// What does not fit about one of its files.
pub fn open(folder: Option<&Path>, source: &ModelSource) -> Result<Loras, ModelError> {
    Ok(folder.map(|folder| Loras::from_folder(folder, source)).transpose()?.unwrap_or_default())
}

/// As a stage tells them.
pub fn files(loras: &Loras) -> Vec<v1::LoraFile> {
    loras.files().map(|(name, digest)| v1::LoraFile { name: name.into(), digest: digest.into() }).collect()
}

/// Passes those that are `known`, each once, with the weights that they may have.
///
/// # Errors
/// `INVALID_ARGUMENT` with the name or the weight, and what would do.
pub fn checked(loras: &[v1::Lora], known: &[v1::LoraFile]) -> Result<Vec<LoraUse>, Status> {
    if loras.len() > MAX_USES {
        return Err(invalid_argument(FIELD, format!("{} are more than {MAX_USES}", loras.len())));
    }
    let mut checked: Vec<LoraUse> = Vec::with_capacity(loras.len());
    for v1::Lora { name, weight } in loras {
        if !known.iter().any(|file| file.name == *name) {
            let names: Vec<&str> = known.iter().map(|file| file.name.as_str()).collect();
            let known =
                if names.is_empty() { "none was loaded".into() } else { format!("known: {}", names.join(", ")) };
            return Err(invalid_argument(FIELD, format!("{} is not known, {known}", shown(name))));
        }
        if checked.iter().any(|used| used.name == *name) {
            return Err(invalid_argument(FIELD, format!("{} is named twice", shown(name))));
        }
        let weight = within("loras.weight", weight.unwrap_or(1.0), -MAX_WEIGHT..=MAX_WEIGHT)?;
        checked.push(LoraUse { name: name.clone(), weight });
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_twice_or_out_of_range_is_told_by_name() {
        let known = ["flat", "ink"].map(|name| v1::LoraFile { name: name.into(), digest: String::new() });
        let ask = |asked: &[(&str, Option<f64>)]| {
            let loras: Vec<v1::Lora> =
                asked.iter().map(|(name, weight)| v1::Lora { name: (*name).into(), weight: *weight }).collect();
            checked(&loras, &known).map_err(|status| status.message().to_owned())
        };
        let used = ask(&[("ink", None), ("flat", Some(-0.5))]).unwrap();
        let used: Vec<_> = used.iter().map(|used| (used.name.as_str(), used.weight)).collect();
        assert_eq!(used, [("ink", 1.0), ("flat", -0.5)]);
        assert_eq!(ask(&[("oil", None)]).unwrap_err(), "loras: \"oil\" is not known, known: flat, ink");
        assert_eq!(ask(&[("ink", None), ("ink", Some(0.5))]).unwrap_err(), "loras: \"ink\" is named twice");
        assert_eq!(ask(&[("ink", Some(f64::NAN))]).unwrap_err(), "loras.weight: NaN is not in -10 to 10");
        assert_eq!(ask(&[("ink", None); 9]).unwrap_err(), "loras: 9 are more than 8");
    }
}
