//! What a model's `scheduler_config.json` says about its noise, as inert data.

use std::str::FromStr;

use crate::error::ParseError;

/// How a model was trained to be noised, under the names of diffusers' `scheduler_config.json`.
///
/// The default is Stable Diffusion v1, which is also right for single-file checkpoints: they carry no such file.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// Length of the noise schedule; timesteps are `0..num_train_timesteps`.
    pub num_train_timesteps: usize,
    /// Variance added at timestep 0.
    pub beta_start: f64,
    /// Variance added at the last timestep.
    pub beta_end: f64,
    /// How the variance grows between the two.
    pub beta_schedule: BetaSchedule,
    /// Where a sampler's timesteps lie. `None` is the default of each sampler's diffusers class: `leading` for PLMS and
    /// DDIM, `linspace` for the others.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to timesteps that are spaced `leading`. `None` is 1, as Stable Diffusion's pipelines insist.
    pub steps_offset: Option<usize>,
    /// Whether PLMS and DDIM end at a picture without noise rather than at the noise of timestep 0. `None` is no.
    pub set_alpha_to_one: Option<bool>,
    /// What the model's output means.
    pub prediction_type: PredictionType,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            timestep_spacing: None,
            steps_offset: None,
            set_alpha_to_one: None,
            prediction_type: PredictionType::Epsilon,
        }
    }
}

/// How betas grow from `beta_start` to `beta_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaSchedule {
    /// Evenly.
    Linear,
    /// Their square roots do: latent diffusion's own schedule.
    ScaledLinear,
}

/// Where `n` timesteps lie among the trained ones: table 2 of Lin et al., "Common Diffusion Noise Schedules and Sample
/// Steps are Flawed" (2023).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestepSpacing {
    /// Multiples of a whole stride, from `steps_offset` up.
    Leading,
    /// A fractional stride, from the noisiest timestep down.
    Trailing,
    /// Evenly between the first and the last timestep, both included.
    Linspace,
}

/// What the model's output means. Only ε-prediction is v1's; anything else has no value here and so cannot be planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise in its input.
    Epsilon,
}

impl FromStr for BetaSchedule {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "linear" => Ok(Self::Linear),
            "scaled_linear" => Ok(Self::ScaledLinear),
            _ => Err(unsupported("beta_schedule", name, "scaled_linear or linear")),
        }
    }
}

impl FromStr for TimestepSpacing {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "leading" => Ok(Self::Leading),
            "trailing" => Ok(Self::Trailing),
            "linspace" => Ok(Self::Linspace),
            _ => Err(unsupported("timestep_spacing", name, "leading, trailing or linspace")),
        }
    }
}

impl FromStr for PredictionType {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "epsilon" => Ok(Self::Epsilon),
            _ => Err(unsupported("prediction_type", name, "a model of the v1 family, which predicts epsilon")),
        }
    }
}

fn unsupported(what: &'static str, name: &str, supported: &'static str) -> ParseError {
    ParseError { what, name: name.to_owned(), supported }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_v1_is_refused_by_name() {
        let error = "v_prediction".parse::<PredictionType>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "prediction_type \"v_prediction\" is not supported: use a model of the v1 family, which predicts epsilon"
        );
        let error = "squaredcos_cap_v2".parse::<BetaSchedule>().unwrap_err();
        assert!(error.to_string().contains("\"squaredcos_cap_v2\""), "{error}");
        assert!("karras".parse::<TimestepSpacing>().is_err());
    }
}
