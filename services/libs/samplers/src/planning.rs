//! From what is asked of a sampler to its plan: the one place that knows every sampler.

use crate::error::PlanError;
use crate::plan::Plan;
use crate::sampler::{PlanRequest, Sampler};
use crate::schedule::NoiseSchedule;
use crate::{ddim, dpm2, dpmpp_2m, euler, euler_ancestral, heun, plms, unipc};

impl NoiseSchedule {
    /// The plan of a request.
    ///
    /// # Errors
    /// [`PlanError`] when the number of steps or eta is out of range.
    pub fn plan(&self, request: &PlanRequest) -> Result<Plan, PlanError> {
        let PlanRequest { sampler, num_inference_steps: n, eta } = *request;
        if !(1..=self.num_train_timesteps()).contains(&n) {
            return Err(PlanError::NumInferenceSteps { given: n, most: self.num_train_timesteps() });
        }
        if !(0.0..=1.0).contains(&eta) {
            return Err(PlanError::Eta(eta));
        }
        if eta != 0.0 && sampler != Sampler::Ddim {
            return Err(PlanError::EtaUnused { eta, sampler });
        }
        Ok(match sampler {
            Sampler::Plms => plms::plan(self, n),
            Sampler::Ddim => ddim::plan(self, n, eta),
            Sampler::DpmSolverPlusPlus2M => dpmpp_2m::plan(self, n),
            Sampler::Euler => euler::plan(self, n),
            Sampler::EulerAncestral => euler_ancestral::plan(self, n),
            Sampler::Heun => heun::plan(self, n),
            Sampler::Dpm2 => dpm2::plan(self, n),
            Sampler::UniPc => unipc::plan(self, n),
        })
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
            schedule.plan(&PlanRequest { sampler, num_inference_steps, eta }).map(|plan| plan.num_evaluations())
        };
        assert_eq!(plan(Sampler::Plms, 0, 0.0), Err(PlanError::NumInferenceSteps { given: 0, most: 1000 }));
        assert_eq!(plan(Sampler::Euler, 1001, 0.0), Err(PlanError::NumInferenceSteps { given: 1001, most: 1000 }));
        assert_eq!(plan(Sampler::Ddim, 10, 1.5), Err(PlanError::Eta(1.5)));
        assert!(plan(Sampler::Ddim, 10, f64::NAN).is_err());
        assert_eq!(plan(Sampler::Euler, 10, 0.5), Err(PlanError::EtaUnused { eta: 0.5, sampler: Sampler::Euler }));
        assert_eq!(plan(Sampler::Ddim, 10, 1.0), Ok(10));
    }

    #[test]
    fn plans_cost_what_their_samplers_say() {
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        for sampler in Sampler::ALL {
            let cost = sampler.cost();
            for num_inference_steps in (1..=50).chain([333, 1000]) {
                let plan = schedule.plan(&PlanRequest { sampler, num_inference_steps, eta: 0.0 }).unwrap();
                let told = i64::from(cost.evaluations_per_step) * num_inference_steps as i64
                    + i64::from(cost.extra_evaluations);
                // PLMS with a single step has no second evaluation.
                let told = if num_inference_steps == 1 { 1 } else { told };
                assert_eq!(plan.num_evaluations() as i64, told, "{sampler}, {num_inference_steps} steps");
            }
        }
    }
}
