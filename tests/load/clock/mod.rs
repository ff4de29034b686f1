//! Workers whose model is a clock: an evaluation takes a given time and computes next to nothing.
//!
//! Everything else is as in the real services: the queue with its bound, who is in the batch and whose turn it is (the engine's own
//! structs), steps, checkpoints, deadlines, cancelling by dropping. Latents follow from the request and from every evaluation, so that
//! a receiver can tell whether any was lost or done twice.

pub(in crate::load) mod batch;
mod denoiser;
mod events;
pub(in crate::load) mod facts;
mod fleet;
mod latents;
mod line;
mod pace;
mod pure;
mod request;

pub use denoiser::ClockDenoiser;
pub use facts::Facts;
pub use fleet::{Addresses, ClockFleet, Plan};
pub use latents::{Digest, Spent};
pub use pace::Pace;
pub use pure::embedding;
pub use request::digest;
