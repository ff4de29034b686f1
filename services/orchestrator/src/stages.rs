//! The workers of the three stages: who they are, who is ready, and who gets the next call.
//!
//! `target` and `discovery` say who there is, `watch` who is ready, `ledger` and `choice` who has the least to do; a `roll` holds
//! those of a stage and `pool` all of them, and tells what is `served` and when its `absence` is for good. `calls` and `denoising`
//! speak to them, through a `gate` where room is scarce; `fault`, `silence`, by the `heartbeat`, and `retry` decide what a failure
//! means, and `attempts` are a piece of work's way from one worker to the next.

mod absence;
pub(crate) mod attempts;
pub(crate) mod calls;
mod choice;
pub(crate) mod denoising;
pub(crate) mod discovery;
pub(crate) mod fault;
mod gate;
mod heartbeat;
mod ledger;
mod pool;
pub(crate) mod retry;
mod roll;
mod served;
pub(crate) mod silence;
mod target;
mod watch;
mod worker;

use darkroom_proto::v1::{DenoiserInfo, StageInfo, TextEncoderInfo, VaeInfo};

pub(crate) use gate::Gates;
pub(crate) use pool::{Errand, Stages};
pub(crate) use worker::{Lease, Worker};

use crate::model::Misfit;

/// One of the three kinds of model service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    TextEncoder,
    Denoiser,
    Vae,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::TextEncoder, Self::Denoiser, Self::Vae];

    /// As messages, metrics and the API name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Denoiser => "denoiser",
            Self::Vae => "vae",
        }
    }
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Info {
    TextEncoder(TextEncoderInfo),
    Denoiser(DenoiserInfo),
    Vae(VaeInfo),
}

impl Info {
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::TextEncoder(_) => Stage::TextEncoder,
            Self::Denoiser(_) => Stage::Denoiser,
            Self::Vae(_) => Stage::Vae,
        }
    }

    /// The part that all stages say.
    pub(crate) fn common(&self) -> Option<&StageInfo> {
        match self {
            Self::TextEncoder(info) => info.stage.as_ref(),
            Self::Denoiser(info) => info.stage.as_ref(),
            Self::Vae(info) => info.stage.as_ref(),
        }
    }

    /// Calls that it has places for. One that does not say takes one at a time.
    pub(crate) fn places(&self) -> usize {
        self.common().map_or(1, |common| common.queue_limit.max(1) as usize)
    }
}

/// Why no request can be served now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StageError {
    /// A stage has no ready worker.
    #[error("{stage}: {why}", stage = .stage.name())]
    Away {
        /// The stage.
        stage: Stage,
        /// What each of its workers lacks.
        why: String,
    },
    /// The workers' models do not belong together.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}
