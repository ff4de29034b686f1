//! `scheduler_config.json`: the noise a model was trained with.

use std::str::FromStr;

use darkroom_samplers::{BetaSchedule, NoiseSchedule, PredictionType, ScheduleConfig, TimestepSpacing};

use super::Fields;
use crate::error::LoadError;

/// The schedule of a single file, which carries none: Stable Diffusion v1's.
pub(crate) fn reference_schedule() -> ScheduleConfig {
    ScheduleConfig::default()
}

/// Reads and checks `scheduler_config.json`; what it leaves out each sampler decides as its diffusers class does.
pub(crate) fn read_schedule(file: &str, bytes: &[u8]) -> Result<ScheduleConfig, LoadError> {
    let fields = Fields::parse(file, bytes)?;
    fields.never("trained_betas", "a noise schedule of its own")?;
    fields.only("rescale_betas_zero_snr", false, "a noise schedule that ends in pure noise")?;
    let reference = reference_schedule();
    let prediction_type = match fields.text("prediction_type")? {
        Some("v_prediction") => {
            return Err(fields.unsupported("prediction_type", "a model that predicts v, such as Stable Diffusion 2"));
        }
        Some(name) => named::<PredictionType>(&fields, "prediction_type", name)?,
        None => reference.prediction_type,
    };
    let beta_schedule = match fields.text("beta_schedule")? {
        Some(name) => named::<BetaSchedule>(&fields, "beta_schedule", name)?,
        None => reference.beta_schedule,
    };
    let spacing = fields.text("timestep_spacing")?;
    let timestep_spacing =
        spacing.map(|name| named::<TimestepSpacing>(&fields, "timestep_spacing", name)).transpose()?;
    let steps_offset = fields.get("steps_offset").map(|_| fields.count("steps_offset", None, 0..=1000)).transpose()?;
    let to_one = fields.get("set_alpha_to_one").map(|_| fields.flag("set_alpha_to_one", false)).transpose()?;
    let config = ScheduleConfig {
        num_train_timesteps: fields.count("num_train_timesteps", Some(reference.num_train_timesteps), 2..=10_000)?,
        beta_start: fields.number("beta_start", reference.beta_start, 0.0..=1.0)?,
        beta_end: fields.number("beta_end", reference.beta_end, 0.0..=1.0)?,
        beta_schedule,
        timestep_spacing,
        steps_offset,
        set_alpha_to_one: to_one,
        prediction_type,
    };
    // What the samplers cannot plan for is found out here, where the file is known.
    NoiseSchedule::new(&config).map_err(|error| LoadError::malformed(file, error))?;
    Ok(config)
}

fn named<T: FromStr<Err: std::fmt::Display>>(fields: &Fields<'_>, field: &str, name: &str) -> Result<T, LoadError> {
    name.parse().map_err(|error: T::Err| fields.wrong(field, error))
}
