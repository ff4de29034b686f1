//! From what is asked of a sampler to its plan: the one place that knows every sampler.

use crate::dpmpp_2m::Kind;
use crate::error::PlanError;
use crate::level::Level;
use crate::plan::Plan;
use crate::sampler::{PlanRequest, Sampler};
use crate::schedule::NoiseSchedule;
use crate::spacing::SigmaSpacing;
use crate::start::{Initial, Start, StrengthWay};
use crate::{
    ddim, ddpm, dpm2, dpm2_ancestral, dpmpp_2m, dpmpp_sde, euler, euler_ancestral, heun, lcm, lms, plms, unipc,
};

impl NoiseSchedule {
    /// The plan of a request.
    ///
    /// # Errors
    /// [`PlanError`] when one of its numbers is out of range, or its sampler does not have what is asked of it.
    pub fn plan(&self, request: &PlanRequest) -> Result<Plan, PlanError> {
        let PlanRequest { sampler, num_inference_steps: n, eta, spacing, start } = *request;
        let most = sampler.most_steps(self.num_train_timesteps());
        if !(1..=most).contains(&n) {
            return Err(PlanError::NumInferenceSteps { given: n, most });
        }
        if !(0.0..=1.0).contains(&eta) {
            return Err(PlanError::Eta(eta));
        }
        if eta != 0.0 && sampler != Sampler::Ddim {
            return Err(PlanError::EtaUnused { eta, sampler });
        }
        if matches!(start, Start::Strength { way: StrengthWay::CompVis, .. }) && sampler != Sampler::Ddim {
            return Err(PlanError::CompVisStart(sampler));
        }
        if let Some(spacing) = spacing.filter(|spacing| !sampler.sigma_spacings().contains(spacing)) {
            return Err(PlanError::SpacingUnused { spacing, sampler });
        }
        let steps = Steps { n, skipped: start.skipped(n)?, spacing, start };
        Ok(match sampler {
            Sampler::Plms => plms::plan(self, steps),
            Sampler::Ddim => ddim::plan(self, steps, eta),
            Sampler::DpmSolverPlusPlus2M => dpmpp_2m::plan(self, steps, Kind::Ode),
            Sampler::DpmSolverPlusPlus2MSde => dpmpp_2m::plan(self, steps, Kind::Sde),
            Sampler::Euler => euler::plan(self, steps),
            Sampler::EulerAncestral => euler_ancestral::plan(self, steps),
            Sampler::Heun => heun::plan(self, steps),
            Sampler::Dpm2 => dpm2::plan(self, steps),
            Sampler::UniPc => unipc::plan(self, steps),
            Sampler::Lms => lms::plan(self, steps),
            Sampler::Dpm2Ancestral => dpm2_ancestral::plan(self, steps),
            Sampler::DpmSolverPlusPlusSde => dpmpp_sde::plan(self, steps),
            Sampler::Lcm => lcm::plan(self, steps),
            Sampler::Ddpm => ddpm::plan(self, steps),
        })
    }
}

/// Which of a sampler's steps are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// All of them, which timesteps are spaced for.
    pub(crate) n: usize,
    /// So many of the first ones are not.
    pub(crate) skipped: usize,
    pub(crate) spacing: Option<SigmaSpacing>,
    pub(crate) start: Start,
}

impl Steps {
    /// How many are taken: one at least.
    pub(crate) fn taken(self) -> usize {
        self.n - self.skipped
    }

    /// The initial latents: noise of this deviation where there is no picture, else the picture noised as `noised` says.
    pub(crate) fn initial(self, init_noise_sigma: f64, noised: Initial) -> Initial {
        match self.start {
            Start::Noise => Initial { original: 0.0, noise: init_noise_sigma },
            Start::Strength { .. } => noised,
        }
    }

    /// The same for samplers whose latents keep their variance, where a picture is noised to `level`.
    pub(crate) fn initial_at(self, level: Level) -> Initial {
        self.initial(1.0, Initial { original: level.alpha, noise: level.sigma })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScheduleConfig;

    #[test]
    fn requests_out_of_range_are_refused() {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        let plan = |sampler, num_inference_steps, eta| {
            let request = PlanRequest { eta, ..PlanRequest::new(sampler, num_inference_steps) };
            schedule.plan(&request).map(|plan| plan.num_evaluations())
        };
        assert_eq!(plan(Sampler::Plms, 0, 0.0), Err(PlanError::NumInferenceSteps { given: 0, most: 1000 }));
        assert_eq!(plan(Sampler::Euler, 1001, 0.0), Err(PlanError::NumInferenceSteps { given: 1001, most: 1000 }));
        assert_eq!(plan(Sampler::Ddim, 10, 1.5), Err(PlanError::Eta(1.5)));
        assert!(plan(Sampler::Ddim, 10, f64::NAN).is_err());
        assert_eq!(plan(Sampler::Euler, 10, 0.5), Err(PlanError::EtaUnused { eta: 0.5, sampler: Sampler::Euler }));
        assert_eq!(plan(Sampler::Ddim, 10, 1.0), Ok(10));
    }

    #[test]
    fn a_strength_takes_so_many_of_the_steps() {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        let plan = |sampler, n, strength, way| {
            let start = Start::Strength { strength, way };
            schedule.plan(&PlanRequest { start, ..PlanRequest::new(sampler, n) })
        };
        for sampler in Sampler::ALL {
            for (n, strength, taken) in [(50, 0.75, 37), (50, 0.02, 1), (20, 1.0, 20), (3, 0.5, 1), (1, 1.0, 1)] {
                let plan = plan(sampler, n, strength, StrengthWay::Diffusers).unwrap();
                assert_eq!(plan.num_inference_steps, taken, "{sampler}");
                assert_eq!(plan.evaluations.last().map(|last| last.step), Some(taken), "{sampler}");
                assert!(plan.initial.original > 0.0 && plan.initial.noise > 0.0);
            }
        }
        for strength in [0.0, -0.5, 1.01, 0.019, f64::NAN, f64::INFINITY] {
            let refused = plan(Sampler::Ddim, 50, strength, StrengthWay::CompVis);
            assert!(matches!(refused, Err(PlanError::Strength { num_inference_steps: 50, .. })), "{strength}");
        }
        let refused = plan(Sampler::Plms, 50, 0.5, StrengthWay::CompVis);
        assert_eq!(refused, Err(PlanError::CompVisStart(Sampler::Plms)));
    }

    #[test]
    fn plans_cost_what_their_samplers_say() {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        for sampler in Sampler::ALL {
            let cost = sampler.cost();
            for num_inference_steps in (1..=50).chain([333, 1000]).filter(|n| *n <= sampler.most_steps(1000)) {
                let plan = schedule.plan(&PlanRequest::new(sampler, num_inference_steps)).unwrap();
                let told = i64::from(cost.evaluations_per_step) * num_inference_steps as i64
                    + i64::from(cost.extra_evaluations);
                // PLMS with a single step has no second evaluation.
                let told = if num_inference_steps == 1 { 1 } else { told };
                assert_eq!(plan.num_evaluations() as i64, told, "{sampler}, {num_inference_steps} steps");
            }
        }
    }
}
