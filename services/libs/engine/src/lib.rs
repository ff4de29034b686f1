//! Step-level batching, and the one thread that owns a model.
//!
//! Two engines share the same parts:
//!
//! - [`Denoiser`] runs many requests at once on one UNet. They join and leave the batch between any two evaluations and may
//!   differ in sampler, steps, guidance, size and progress.
//! - [`Worker`] runs one call after the other on a pure model: a text encoder, an autoencoder.
//!
//! Inside, decisions are plain structs without tasks or clocks: [`waiting`] is the bounded line, [`slots`] is who runs,
//! [`turns`] is which size is served next, [`search`] is how large a batch is worthwhile, [`run`] is one request's state
//! between two evaluations, which a [`Checkpoint`] carries elsewhere. The thread and the async side only carry messages. Nothing here knows gRPC, tensors or metrics: a service converts at its edge and passes an [`Observer`].
//! Work is computed in the trace of whoever submitted it, wherever its thread is (`trace`).

mod batch;
mod checkpoint;
mod denoiser;
mod error;
mod events;
mod given;
mod guidance;
mod load;
mod member;
mod model;
mod observer;
mod owner;
mod pace;
mod queue;
mod request;
pub mod run;
pub mod search;
pub mod slots;
mod step_times;
mod trace;
pub mod turns;
mod update;
pub mod waiting;
mod worker;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError, state_name};
pub use denoiser::{Denoiser, DenoiserOptions, Ready};
pub use error::{ModelError, RunError, SubmitError};
pub use events::{Event, Events};
pub use given::Given;
pub use load::Load;
pub use model::{DenoiseModel, NoiseSource, Row};
pub use observer::{Observer, Unobserved, WasteReason};
pub use owner::Loaded;
pub use request::{Adapter, DenoiseRequest, Finished, Guidance, Step};
pub use search::BatchSearch;
pub use slots::{Budget, Cost, LatentSize, Used};
pub use step_times::StepTime;
pub use worker::{CallError, Worker, WorkerOptions};
