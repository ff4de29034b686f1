//! A model as one file: CompVis' names, and nothing that its reader would take otherwise.

use darkroom_samplers::ScheduleConfig;
use serde::Serialize;
use serde_json::Value;

use super::ConvertError;
use super::model::Model;
use super::tensors::Outgoing;
use crate::config::{self, ClipConfig, UNetConfig, VaeConfig};
use crate::error::LoadError;
use crate::left_out::LeftOut;
use crate::source::Files;
use crate::tokenizer::Tokenizer;
use crate::weights::names::{self, Blocks, Sizes};
use crate::weights::{Part, Weights};

/// Every tensor under its CompVis name, in CompVis' shape.
pub(super) fn tensors<'a>(model: &'a Model<'_>, half: bool) -> Result<Vec<Outgoing<'a>>, ConvertError> {
    if let Some(files) = model.files() {
        let reasons = read_otherwise(model, files)?;
        if !reasons.is_empty() {
            return Err(ConvertError::inexpressible(files.name(), reasons));
        }
    }
    let blocks = Blocks {
        unet_layers: model.unet.layers_per_block,
        up_block_attention: model.unet.up_block_attention.clone(),
        vae_levels: model.vae.block_out_channels.len(),
    };
    let mut tensors = Vec::new();
    let mut nameless = Vec::new();
    // By part: what each tensor must be found as.
    let mut today = Vec::new();
    for network in model.drawing() {
        for (name, stored) in network.tensors() {
            let Some(compvis) = names::to_compvis(network.part, name, &blocks) else {
                nameless.push(format!("tensor {name} of the {} has no name there", network.part));
                continue;
            };
            let shape = names::compvis_shape(network.part, name, stored.shape());
            tensors.push(Outgoing { name: compvis, shape, stored, half });
            today.push((network.part, name));
        }
    }
    // What is written is found again as what it was, whatever sizes the reader guesses from the names.
    let sizes = Sizes::of(tensors.iter().map(|tensor| tensor.name.as_str()));
    for (tensor, (part, name)) in tensors.iter().zip(today) {
        if names::from_compvis(&tensor.name, sizes) != Some((part, name.to_owned())) {
            nameless.push(format!("tensor {name} of the {part} would be taken for another"));
        }
    }
    if nameless.is_empty() { Ok(tensors) } else { Err(ConvertError::inexpressible(model.source.name(), nameless)) }
}

/// What a folder says beside its weights and a single file does not: what would be lost, but changes no picture that is fully described.
pub(super) fn lost(model: &Model<'_>) -> Result<Vec<LeftOut>, ConvertError> {
    let Some(files) = model.files() else { return Ok(Vec::new()) };
    let mut lost = Vec::new();
    if model.networks.iter().any(|network| network.part == Part::SafetyChecker) {
        lost.push(LeftOut::one("the safety checker; --safety-checker takes it from the folder"));
    }
    for (file, what) in [
        ("defaults.json", "the model's own settings of a request (defaults.json)"),
        ("latent_rgb.json", "the colours of its previews (latent_rgb.json)"),
    ] {
        if files.open(file)?.is_some() {
            lost.push(LeftOut::one(what));
        }
    }
    let (own, taken) = (model.unet.sample_size, inferred_unet(model)?.sample_size);
    if own != taken {
        lost.push(LeftOut::one(format!("the size of its pictures (sample_size {own}; a single file's is {taken})")));
    }
    if model.source.schedule().timestep_spacing.is_some() {
        lost.push(LeftOut::one(
            "its timestep_spacing, leading; samplers that space otherwise by themselves will do so",
        ));
    }
    Ok(lost)
}

/// Whatever the reader of a single file would take to be something else.
fn read_otherwise(model: &Model<'_>, files: &Files) -> Result<Vec<String>, ConvertError> {
    let mut reasons = Vec::new();
    if !Tokenizer::is_clips(files)? {
        reasons.push("tokenizer: its vocabulary is not CLIP's, which a single file's reader takes".into());
    }
    schedule(&model.source.schedule(), &mut reasons);
    for network in model.drawing() {
        let weights = &network.weights;
        match network.part {
            Part::TextEncoder => compare("text_encoder", &model.clip, ClipConfig::infer(weights), &mut reasons),
            Part::Unet => compare("unet", &model.unet, UNetConfig::infer(weights), &mut reasons),
            Part::Vae => compare("vae", &model.vae, VaeConfig::infer(weights), &mut reasons),
            Part::SafetyChecker => {}
        }
    }
    Ok(reasons)
}

/// Notes every field of a configuration that would be inferred as another.
fn compare<C: Serialize>(part: &str, own: &C, inferred: Result<C, LoadError>, reasons: &mut Vec<String>) {
    let inferred = match inferred {
        Ok(inferred) => inferred,
        Err(error) => return reasons.push(format!("{part}: {error}")),
    };
    let (Ok(Value::Object(own)), Ok(Value::Object(inferred))) =
        (serde_json::to_value(own), serde_json::to_value(inferred))
    else {
        return reasons.push(format!("{part}: its configuration is not an object"));
    };
    for (field, value) in own.iter().filter(|(field, value)| inferred.get(*field) != Some(*value)) {
        let taken = inferred.get(field).unwrap_or(&Value::Null);
        reasons.push(format!("{part}: {field} is {value}, a single file's reader takes {taken}"));
    }
}

/// Notes every field of a schedule that is not Stable Diffusion v1's.
fn schedule(own: &ScheduleConfig, reasons: &mut Vec<String>) {
    let (own, reference) = (config::schedule_json(own), config::schedule_json(&config::reference_schedule()));
    let leading = Value::from("leading");
    for (field, value) in own.as_object().into_iter().flatten() {
        // A file that says nothing of it leaves it to each sampler, and to that of the reference it is this.
        let taken = if field == "timestep_spacing" { &leading } else { &reference[field] };
        if value != taken {
            reasons.push(format!("scheduler: {field} is {value}, a single file's reader takes {taken}"));
        }
    }
}

fn inferred_unet(model: &Model<'_>) -> Result<UNetConfig, LoadError> {
    let weights: Option<&Weights> =
        model.networks.iter().find(|network| network.part == Part::Unet).map(|network| &network.weights);
    weights.map_or_else(|| Ok(model.unet.clone()), UNetConfig::infer)
}
