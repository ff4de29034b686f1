//! The denoiser with the embedded model, called over gRPC.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by panicking")]

mod calling;
mod calls;
mod recovery;
