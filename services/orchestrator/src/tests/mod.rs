//! The orchestrator against stages that keep the protocol and have no models.

mod crowds;
pub(crate) mod fakes;
mod fleet;
mod flow;
mod from_zero;
mod joining;
mod keys;
mod models;
mod modifying;
mod pools;
mod recovery;
mod refusals;
mod telling;
