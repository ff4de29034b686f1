//! Checkpoints between the engine and the wire.

use darkroom_engine::{Checkpoint, CheckpointError, LatentSize, state_name};
use darkroom_proto::tensor::{TensorError, TensorView};
use darkroom_proto::v1::{self, Dtype, Tensor};
use darkroom_samplers::Plan;
use darkroom_service_kit::status::{invalid_argument, shown};
use darkroom_stage_kit::refusal;
use tonic::Status;

const STATES: &str = "resume_from.states";

/// The message of a checkpoint.
pub(crate) fn message(checkpoint: &Checkpoint, shape: [usize; 3]) -> v1::Checkpoint {
    let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let state = |(index, values): (usize, &Vec<f32>)| v1::StateTensor {
        name: state_name(index),
        tensor: Some(Tensor::from_f32(&shape, values)),
    };
    v1::Checkpoint {
        plan_version: checkpoint.plan_version,
        evaluation: count(checkpoint.evaluation),
        states: checkpoint.states.iter().enumerate().map(state).collect(),
        noise_draws: count(checkpoint.noise_draws),
    }
}

/// Checks a message against the plan of its request.
///
/// # Errors
/// `FAILED_PRECONDITION` for another plan version, `INVALID_ARGUMENT` for the first field that does not fit.
pub(crate) fn checked(
    message: &v1::Checkpoint,
    plan: &Plan,
    channels: usize,
    size: LatentSize,
) -> Result<Checkpoint, Status> {
    // Under another version nothing else means what it means here.
    Checkpoint::check_version(message.plan_version).map_err(|error| refusal::checkpoint(&error))?;
    let (found, expected) = (message.states.len(), plan.num_states);
    if found != expected {
        return Err(refusal::checkpoint(&CheckpointError::States { found, expected }));
    }
    let shape = [channels, size.height, size.width];
    let states = message.states.iter().enumerate().map(|(index, state)| values(index, state, &shape));
    let checkpoint = Checkpoint {
        plan_version: message.plan_version,
        evaluation: message.evaluation as usize,
        states: states.collect::<Result<_, _>>()?,
        noise_draws: message.noise_draws as usize,
    };
    checkpoint.check(plan, shape.iter().product()).map_err(|error| refusal::checkpoint(&error))?;
    Ok(checkpoint)
}

fn values(index: usize, state: &v1::StateTensor, shape: &[usize]) -> Result<Vec<f32>, Status> {
    let name = state_name(index);
    if state.name != name {
        let found = shown(&state.name);
        return Err(invalid_argument(STATES, format!("state {index} is named {found}; expected {name:?}")));
    }
    let values = || -> Result<Vec<f32>, TensorError> {
        TensorView::required(state.tensor.as_ref(), STATES)?.expect_dtype(Dtype::F32)?.expect_shape(shape)?.to_f32()
    };
    values().map_err(|error| {
        let text = error.to_string();
        let problem = text.strip_prefix(STATES).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
        invalid_argument(STATES, format!("{name}: {problem}"))
    })
}
