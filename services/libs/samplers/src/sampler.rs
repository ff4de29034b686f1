//! The samplers by name, and what is asked of them.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;
use crate::lcm;
use crate::spacing::SigmaSpacing;
use crate::start::Start;

/// A way from noise to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sampler {
    /// Pseudo linear multistep: diffusers' `PNDMScheduler` with `skip_prk_steps`, CompVis' `PLMSSampler`.
    Plms,
    /// Denoising diffusion implicit models: diffusers' `DDIMScheduler`, CompVis' `DDIMSampler`.
    Ddim,
    /// DPM-Solver++ (2M): diffusers' `DPMSolverMultistepScheduler`.
    DpmSolverPlusPlus2M,
    /// Euler's method in σ: diffusers' `EulerDiscreteScheduler`.
    Euler,
    /// Euler's method with fresh noise at every step: diffusers' `EulerAncestralDiscreteScheduler`.
    EulerAncestral,
    /// Heun's method in σ, two evaluations a step: diffusers' `HeunDiscreteScheduler`.
    Heun,
    /// DPM-Solver-2 in σ, two evaluations a step: diffusers' `KDPM2DiscreteScheduler`.
    Dpm2,
    /// UniPC of order 2: diffusers' `UniPCMultistepScheduler`.
    UniPc,
    /// Linear multistep in σ: diffusers' `LMSDiscreteScheduler`.
    Lms,
    /// DPM-Solver-2 with fresh noise at every step: diffusers' `KDPM2AncestralDiscreteScheduler`.
    Dpm2Ancestral,
    /// DPM-Solver++ (2M) with fresh noise at every step: diffusers' `DPMSolverMultistepScheduler` with `sde-dpmsolver++`.
    DpmSolverPlusPlus2MSde,
    /// DPM-Solver++ of one step with fresh noise, two evaluations a step: diffusers' `DPMSolverSDEScheduler`.
    DpmSolverPlusPlusSde,
    /// Latent consistency models, for UNets that were distilled so: diffusers' `LCMScheduler`.
    Lcm,
    /// Denoising diffusion probabilistic models: diffusers' `DDPMScheduler`.
    Ddpm,
}

impl Sampler {
    /// Every sampler, the reference's own first.
    pub const ALL: [Self; 14] = [
        Self::Plms,
        Self::Ddim,
        Self::DpmSolverPlusPlus2M,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::Dpm2,
        Self::UniPc,
        Self::Lms,
        Self::Dpm2Ancestral,
        Self::DpmSolverPlusPlus2MSde,
        Self::DpmSolverPlusPlusSde,
        Self::Lcm,
        Self::Ddpm,
    ];

    /// The name that requests use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plms => "plms",
            Self::Ddim => "ddim",
            Self::DpmSolverPlusPlus2M => "dpmpp_2m",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler_a",
            Self::Heun => "heun",
            Self::Dpm2 => "dpm2",
            Self::UniPc => "unipc",
            Self::Lms => "lms",
            Self::Dpm2Ancestral => "dpm2_a",
            Self::DpmSolverPlusPlus2MSde => "dpmpp_2m_sde",
            Self::DpmSolverPlusPlusSde => "dpmpp_sde",
            Self::Lcm => "lcm",
            Self::Ddpm => "ddpm",
        }
    }

    /// What its steps cost.
    #[must_use]
    pub const fn cost(self) -> Cost {
        let (evaluations_per_step, extra_evaluations) = match self {
            Self::Plms => (1, 1),
            Self::Heun | Self::Dpm2 | Self::Dpm2Ancestral | Self::DpmSolverPlusPlusSde => (2, -1),
            Self::Ddim
            | Self::DpmSolverPlusPlus2M
            | Self::Euler
            | Self::EulerAncestral
            | Self::UniPc
            | Self::Lms
            | Self::DpmSolverPlusPlus2MSde
            | Self::Lcm
            | Self::Ddpm => (1, 0),
        };
        Cost { evaluations_per_step, extra_evaluations }
    }

    /// The most steps that it takes over a schedule of so many timesteps.
    #[must_use]
    pub fn most_steps(self, num_train_timesteps: usize) -> usize {
        match self {
            Self::Lcm => lcm::MOST_STEPS.min(num_train_timesteps),
            _ => num_train_timesteps,
        }
    }

    /// How its σ can be spaced otherwise than its timesteps are: PLMS, DDIM, LCM and DDPM visit whole timesteps.
    #[must_use]
    pub const fn sigma_spacings(self) -> &'static [SigmaSpacing] {
        match self {
            Self::Plms | Self::Ddim | Self::Lcm | Self::Ddpm => &[],
            _ => &SigmaSpacing::ALL,
        }
    }
}

/// Evaluations of the model for n steps: `evaluations_per_step` · n + `extra_evaluations`, and one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Two for the methods of second order without history.
    pub evaluations_per_step: u32,
    /// However many steps there are.
    pub extra_evaluations: i32,
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Sampler {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        Self::ALL.into_iter().find(|sampler| sampler.name() == name).ok_or_else(|| ParseError {
            what: "sampler",
            name: name.to_owned(),
            supported: "plms, ddim, dpmpp_2m, euler, euler_a, heun, dpm2, unipc, lms, dpm2_a, dpmpp_2m_sde, dpmpp_sde, lcm or ddpm",
        })
    }
}

/// What [`NoiseSchedule::plan`](crate::NoiseSchedule::plan) is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanRequest {
    /// Which way to go.
    pub sampler: Sampler,
    /// In how many steps: 1 to the schedule's `num_train_timesteps`.
    pub num_inference_steps: usize,
    /// DDIM's share of the posterior's noise, 0 (none) to 1 (all of it, as DDPM). 0 for other samplers.
    pub eta: f64,
    /// How its noise levels are spaced; `None`: as the timesteps of its class lie.
    pub spacing: Option<SigmaSpacing>,
    /// Where it begins.
    pub start: Start,
}

impl PlanRequest {
    /// From noise, as the sampler's class has it.
    #[must_use]
    pub fn new(sampler: Sampler, num_inference_steps: usize) -> Self {
        Self { sampler, num_inference_steps, eta: 0.0, spacing: None, start: Start::Noise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_is_offered() {
        let refused = "dpm_fast".parse::<Sampler>().unwrap_err();
        for sampler in Sampler::ALL {
            assert_eq!(sampler.to_string().parse(), Ok(sampler));
            assert!(refused.supported.contains(sampler.name()));
        }
    }
}
