//! What the three model stages (text encoder, denoiser, autoencoder) share at their edges.
//!
//! - [`model`] finds the model that the configuration names and says who it is.
//! - [`facts`] holds what a stage knows of its model once that is loaded, and turns readiness.
//! - [`loras`] reads the LoRAs that the configuration names, and checks those that a message names.
//! - [`noise`] reads whose noise a message asks for.
//! - [`refusal`] maps what the engine and the tensor view refuse to gRPC statuses: the only place where that is decided.
//! - [`metrics`] counts what all stages count.

pub mod facts;
pub mod loras;
pub mod metrics;
pub mod model;
pub mod noise;
pub mod refusal;
