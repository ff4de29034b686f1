//! The orchestrator: takes requests for pictures, queues them, and drives the text encoders, denoisers and VAEs.
//!
//! - `service` is the gRPC edge; `validate` turns a request into a checked `Job`, `events` turns progress into messages.
//! - `queue` decides who is next, as a plain struct; `admission` hands its places to tasks as guards.
//! - `stages` knows the workers: who is ready, who is least busy, whether their models fit together; `stages::calls` speaks to them.
//! - `generate` is the life of a request; `prompts`, `picture` and `parameters` are its steps.
//!
//! Cancelling is dropping: a client's stream owns the task of its request, the task owns its images' tasks, and those own the
//! streams from the stages.

mod admission;
mod config;
mod embedding_cache;
mod events;
mod generate;
mod job;
mod metrics;
mod model;
mod parameters;
mod picture;
mod prompts;
mod queue;
mod running;
mod selection;
mod service;
mod stages;
mod start;
mod validate;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use start::start;
