//! The orchestrator: takes requests for pictures, queues them, and drives the text encoders, denoisers and VAEs.
//!
//! - `service` is the gRPC edge; `validate` turns a request into a checked `Job`, `events` turns progress into messages.
//! - `clients` says who asks; `estimate` what a request costs while no model is there to check it against; `scheduler` decides who is let in and who is next, as a plain struct; `admission` hands its decisions
//!   to tasks as guards.
//! - `lines` are the models that are served side by side, each with workers, a queue and a generator of its own; `places` is what of
//!   all queues' places each may have.
//! - `stages` knows the workers: who is there, who is ready, who is least busy; `selection` says which of them serve together, and
//!   `stages::calls` speaks to them, again and elsewhere if need be.
//! - `generate` is the life of a request, and `generate::denoise` that of a picture over all denoisers that it takes;
//!   `prompts` with its `embedding_cache`, `picture` and `parameters` are its steps.
//! - `inputs` are the pictures that requests begin from, and `picture_file` reads them and brings them to size.
//! - `running` knows the requests by name: `journal` lets several listeners hear one, `finished` keeps results for a moment.
//! - `trace` names the spans of a request, where an operator has them collected.
//!
//! Cancelling is dropping: the last listener's stream owns the task of its request, the task owns its images' tasks, and those
//! own the streams from the stages.

mod admission;
mod answers;
mod audit;
mod clients;
mod config;
mod embedding_cache;
mod estimate;
mod events;
mod finished;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod generate;
mod inputs;
mod job;
mod journal;
mod lines;
mod metrics;
mod model;
mod parameters;
mod picture;
mod picture_file;
mod places;
mod prompts;
mod results;
mod running;
mod scheduler;
mod selection;
mod service;
#[doc(hidden)]
pub mod simulation;
mod stages;
mod start;
mod totals;
mod trace;
mod validate;

#[cfg(test)]
mod tests;

pub use config::{Config, ModelTable};
pub use job::Priority;
pub use start::start;
