//! What can be wrong with a schedule or with a request for a plan.

use crate::sampler::Sampler;
use crate::spacing::SigmaSpacing;

/// A name that is not one of those known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not supported: use {supported}")]
pub struct ParseError {
    /// What the name stands for: the field of `scheduler_config.json`, or `sampler`.
    pub what: &'static str,
    /// The name that was given.
    pub name: String,
    /// The names that would do.
    pub supported: &'static str,
}

/// A [`ScheduleConfig`](crate::ScheduleConfig) that describes no noise schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// Fewer timesteps than a schedule has ends, or more than a table should hold.
    #[error("num_train_timesteps is {0}: it must be 2 to 100000")]
    NumTrainTimesteps(usize),
    /// Betas that are no increasing variances between 0 and 1.
    #[error("beta_start is {start} and beta_end {end}: they must satisfy 0 < beta_start <= beta_end < 1")]
    Betas {
        /// `beta_start`.
        start: f64,
        /// `beta_end`.
        end: f64,
    },
    /// So little noise that timesteps cannot be told apart.
    #[error("betas of {start:e} to {end:e} leave timesteps that differ by no noise: raise beta_start")]
    TooQuiet {
        /// `beta_start`.
        start: f64,
        /// `beta_end`.
        end: f64,
    },
    /// So much noise that nothing of the picture is left.
    #[error("alphas_cumprod falls to {0:e}: the betas add too much noise for num_train_timesteps, lower beta_end")]
    TooNoisy(f64),
}

/// A [`PlanRequest`](crate::PlanRequest) that no plan fits.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No steps, or more than the schedule has timesteps.
    #[error("num_inference_steps is {given}: it must be 1 to {most}")]
    NumInferenceSteps {
        /// What was asked for.
        given: usize,
        /// The schedule's `num_train_timesteps`.
        most: usize,
    },
    /// Not a share of the full variance.
    #[error("eta is {0}: it must be 0 to 1")]
    Eta(f64),
    /// No part of a picture's noising, or so small a one that no step remains.
    #[error("strength is {strength}: with {num_inference_steps} steps it must be {} to 1", 1.0 / *.num_inference_steps as f64)]
    Strength {
        /// What was asked for.
        strength: f64,
        /// Of so many steps.
        num_inference_steps: usize,
    },
    /// Only samplers that step in σ can space it.
    #[error("sigma_spacing is {spacing}, but the sampler {sampler} visits whole timesteps: leave it out")]
    SpacingUnused {
        /// What was asked for.
        spacing: SigmaSpacing,
        /// The sampler that was asked for.
        sampler: Sampler,
    },
    /// Only DDIM begins from a picture as CompVis' script does.
    #[error("CompVis begins from a picture with ddim alone: for {0} use the way of diffusers")]
    CompVisStart(Sampler),
    /// Only DDIM has an eta.
    #[error("eta is {eta}, but the sampler {sampler} has none: leave it 0 or use ddim")]
    EtaUnused {
        /// What was asked for.
        eta: f64,
        /// The sampler that was asked for.
        sampler: Sampler,
    },
}
