//! The model that a stage's configuration names.

use darkroom_engine::ModelError;
use darkroom_models::source::{ModelSource, SourceOptions};
use darkroom_models::stage::{ComputeOptions, LoadedModel};
use darkroom_proto::v1;
use darkroom_service_kit::{ModelArgs, VERSION};

/// Finds the model and reads how to compute with it. Reads files: call it on the model's own thread.
///
/// # Errors
/// An unknown device or precision, or what is wrong with the model's path or files.
pub fn open(args: &ModelArgs) -> Result<(ModelSource, ComputeOptions), ModelError> {
    let options = ComputeOptions {
        device: args.device.parse()?,
        precision: args.precision.parse()?,
        threads: args.threads.map(std::num::NonZero::get),
    };
    Ok((ModelSource::resolve(args.model.as_deref(), SourceOptions { ema: args.ema })?, options))
}

/// What a stage says of itself in `GetInfo`.
pub fn stage_info<M: LoadedModel + ?Sized>(source: &ModelSource, model: &M, queue_limit: usize) -> v1::StageInfo {
    let identity = model.identity();
    v1::StageInfo {
        model: source.name().to_owned(),
        revision: identity.revision.clone(),
        precision: identity.precision.to_string(),
        device: identity.device.to_string(),
        version: VERSION.to_owned(),
        queue_limit: u32::try_from(queue_limit).unwrap_or(u32::MAX),
    }
}
