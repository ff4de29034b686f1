//! Noise schedules and samplers of Stable Diffusion v1 as pure mathematics: no tensors, no random numbers, no clock.
//!
//! A sampler is a [`Plan`]: a list of model evaluations, each followed by linear updates of a few named state tensors with
//! `f64` coefficients. Whoever holds the tensors applies the updates; everything that tells one sampler from another is
//! decided here, before the first evaluation.
//!
//! ```
//! use darkroom_samplers::{NoiseSchedule, PlanRequest, Sampler, ScheduleConfig};
//!
//! let schedule = NoiseSchedule::new(&ScheduleConfig::default())?;
//! let plan = schedule.plan(&PlanRequest::new(Sampler::Plms, 50))?;
//! assert_eq!(plan.num_evaluations(), 51);
//! assert_eq!(plan.evaluations[0].timestep, 981.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod ddim;
mod ddpm;
mod dpm2;
mod dpm2_ancestral;
mod dpmpp_2m;
mod dpmpp_sde;
mod error;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod level;
mod lms;
mod plan;
mod planning;
mod plms;
mod sampler;
mod schedule;
mod sigma_path;
mod spacing;
mod start;
mod timesteps;
mod unipc;

pub use config::{BetaSchedule, PredictionType, ScheduleConfig, TimestepSpacing};
pub use error::{ParseError, PlanError, ScheduleError};
pub use plan::{Evaluation, LATENTS, Plan, Source, StateId, Term, Update};
pub use sampler::{Cost, PlanRequest, Sampler};
pub use schedule::NoiseSchedule;
pub use spacing::SigmaSpacing;
pub use start::{Initial, Start, StrengthWay};
