//! Whose noise a message asks for.

use darkroom_models::noise::Rng;
use darkroom_proto::v1;
use darkroom_service_kit::status::invalid_argument;
use tonic::Status;

/// Checks a message's `rng`.
///
/// # Errors
/// `INVALID_ARGUMENT` for one that is not known.
pub fn rng(field: &str, rng: i32) -> Result<Rng, Status> {
    match v1::Rng::try_from(rng) {
        Ok(v1::Rng::Unspecified | v1::Rng::Cpu) => Ok(Rng::Cpu),
        Ok(v1::Rng::Cuda) => Ok(Rng::Cuda),
        Err(_) => Err(invalid_argument(field, format!("{rng} is not known, use CPU or CUDA"))),
    }
}
