//! LoRAs by name and weight.

use darkroom_proto::v1;
use darkroom_service_kit::status::shown;

use super::{Refusal, refuse};
use crate::job::Lora;
use crate::model::Model;

const MAX_LORAS: usize = 8;
const MAX_WEIGHT: f64 = 10.0;

/// Those that the model has, each once; a weight that is left out is 1.
pub(super) fn checked(loras: Vec<v1::Lora>, model: &Model) -> Result<Vec<Lora>, Refusal> {
    if loras.len() > MAX_LORAS {
        return refuse("loras", format!("has {}, at most {MAX_LORAS} are allowed", loras.len()));
    }
    let mut checked: Vec<Lora> = Vec::with_capacity(loras.len());
    for v1::Lora { name, weight } in loras {
        if !model.loras.contains(&name) {
            let known = match &model.loras[..] {
                [] => "the model has none".to_owned(),
                names => format!("use one of {}", names.join(", ")),
            };
            return refuse("loras", format!("{} is not known, {known}", shown(&name)));
        }
        if checked.iter().any(|lora| lora.name == name) {
            return refuse("loras", format!("{} is named twice", shown(&name)));
        }
        let weight = weight.unwrap_or(1.0);
        // A NaN is in no range.
        if !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight) {
            let allowed = format!("it must be -{MAX_WEIGHT} to {MAX_WEIGHT}");
            return refuse("loras", format!("the weight {weight} of {} is not allowed, {allowed}", shown(&name)));
        }
        checked.push(Lora { name, weight });
    }
    Ok(checked)
}
