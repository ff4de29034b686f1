//! Everything that the rest of a request depends on besides the request itself: enough to go on elsewhere with the same bits.

use darkroom_samplers::{LATENTS, Plan, StateId};
use thiserror::Error;

use crate::run::draws_before;

/// A request between two evaluations.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// [`Plan::VERSION`] where it was made.
    pub plan_version: u32,
    /// Evaluations done: the index of the one that comes next.
    pub evaluation: usize,
    /// Every state of the plan, in the plan's order. What no evaluation has written yet is there too.
    pub states: Vec<Vec<f32>>,
    /// Draws of noise used up after the initial latents. The plan tells it as well: it is here to be held against that.
    pub noise_draws: usize,
}

/// Why a checkpoint does not belong to a request.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CheckpointError {
    /// Plans of another generation: the same evaluation may be another one there.
    #[error("{found} is not {}, the version of the plans that are made here", Plan::VERSION)]
    PlanVersion {
        /// The version found.
        found: u32,
    },
    /// It stands behind the plan's last evaluation.
    #[error("{found} is not in 0 to {last}, the evaluations of this request")]
    Evaluation {
        /// The evaluation found.
        found: usize,
        /// The plan's last one.
        last: usize,
    },
    /// More or fewer states than the plan keeps.
    #[error("{found} were sent; this request's sampler keeps {expected}")]
    States {
        /// How many were found.
        found: usize,
        /// How many the plan has.
        expected: usize,
    },
    /// A state of another size.
    #[error("{} has {found} values; this request's latents have {expected}", state_name(*.state))]
    Length {
        /// The state.
        state: StateId,
        /// Its values.
        found: usize,
        /// The latents' values.
        expected: usize,
    },
    /// A NaN or an infinity in a state.
    #[error("element {index} of {} is {value}; every element must be finite", state_name(*.state))]
    NotFinite {
        /// The state.
        state: StateId,
        /// The first bad element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// Another place in the noise than the plan stands at by then.
    #[error("{found} is not {expected}, the draws that this request has used before evaluation {evaluation}")]
    NoiseDraws {
        /// The draws found.
        found: usize,
        /// The draws that the plan's earlier evaluations read.
        expected: usize,
        /// The evaluation that comes next.
        evaluation: usize,
    },
}

impl CheckpointError {
    /// The field of the checkpoint that is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            Self::PlanVersion { .. } => "plan_version",
            Self::Evaluation { .. } => "evaluation",
            Self::States { .. } | Self::Length { .. } | Self::NotFinite { .. } => "states",
            Self::NoiseDraws { .. } => "noise_draws",
        }
    }
}

/// What a plan's state is called where names travel: the result is "latents", the sampler's history is numbered.
pub fn state_name(state: StateId) -> String {
    if state == LATENTS { "latents".to_owned() } else { format!("state_{state}") }
}

impl Checkpoint {
    /// Whether it was made under the plans that are made here.
    ///
    /// # Errors
    /// [`CheckpointError::PlanVersion`]: nothing else in it can be judged then.
    pub fn check_version(plan_version: u32) -> Result<(), CheckpointError> {
        if plan_version == Plan::VERSION { Ok(()) } else { Err(CheckpointError::PlanVersion { found: plan_version }) }
    }

    /// Whether a request with this plan, whose latents have `elements` values, can go on from here.
    ///
    /// # Errors
    /// The first thing that does not fit. What fits may still be another request's: nobody could tell.
    pub fn check(&self, plan: &Plan, elements: usize) -> Result<(), CheckpointError> {
        Self::check_version(self.plan_version)?;
        let evaluation = self.evaluation;
        if evaluation >= plan.num_evaluations() {
            let last = plan.num_evaluations().saturating_sub(1);
            return Err(CheckpointError::Evaluation { found: evaluation, last });
        }
        if self.states.len() != plan.num_states {
            return Err(CheckpointError::States { found: self.states.len(), expected: plan.num_states });
        }
        for (state, values) in self.states.iter().enumerate() {
            if values.len() != elements {
                return Err(CheckpointError::Length { state, found: values.len(), expected: elements });
            }
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(CheckpointError::NotFinite { state, index, value: values[index] });
            }
        }
        let expected = draws_before(plan, evaluation);
        if self.noise_draws != expected {
            return Err(CheckpointError::NoiseDraws { found: self.noise_draws, expected, evaluation });
        }
        Ok(())
    }

    /// Memory of the states.
    pub fn bytes(&self) -> usize {
        self.states.iter().map(|state| size_of_val(state.as_slice())).sum()
    }
}
