//! The second pass that a request asks for.

use darkroom_proto::v1;

use super::{Limits, Refusal, refuse, side, strength};
use crate::job::{Hires, Job};
use crate::model::Model;

/// As AUTOMATIC1111's web UI has it.
const STRENGTH: f64 = 0.7;

/// Checked against a `job` whose other fields are.
///
/// # Errors
/// The first field that is wrong.
pub(super) fn checked(second: v1::Hires, job: &Job, model: &Model, limits: Limits) -> Result<Hires, Refusal> {
    if job.init.is_some() {
        return refuse("hires", "is not for requests with an init_image: say its width and height".to_owned());
    }
    let larger = |field, value, first| match side(field, value, model, limits)? {
        value if value < first => refuse(field, format!("{value} is not allowed, the first pass has {first} already")),
        value => Ok(value),
    };
    Ok(Hires {
        width: larger("hires.width", second.width, job.width)?,
        height: larger("hires.height", second.height, job.height)?,
        strength: strength("hires.strength", second.strength.unwrap_or(STRENGTH), job.num_inference_steps)?,
    })
}
