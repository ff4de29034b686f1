//! The fields of a request that say which noise it starts from, besides its seed.

use darkroom_proto::v1::{Rng, Variation};

use super::{Refusal, real, refuse};

pub(super) fn rng(rng: i32) -> Result<Rng, Refusal> {
    match Rng::try_from(rng) {
        Ok(Rng::Unspecified | Rng::Cpu) => Ok(Rng::Cpu),
        Ok(Rng::Cuda) => Ok(Rng::Cuda),
        Err(_) => refuse("rng", format!("{rng} is not known, use CPU or CUDA")),
    }
}

/// `random` is drawn from for an absent seed.
pub(super) fn variation(
    seed: Option<u64>,
    strength: Option<f64>,
    random: impl FnOnce() -> u64,
) -> Result<Option<Variation>, Refusal> {
    let strength = real("variation_strength", strength.unwrap_or(0.0), 1.0)?;
    match seed {
        _ if strength > 0.0 => Ok(Some(Variation { seed: seed.unwrap_or_else(random), strength })),
        Some(seed) => {
            refuse("variation_seed", format!("{seed} does nothing without a variation_strength of more than 0, to 1"))
        }
        None => Ok(None),
    }
}
