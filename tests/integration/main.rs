//! Darkroom as its users and operators meet it: whole fleets in this process, and the real programs beside it.

#![expect(clippy::expect_used, clippy::panic, reason = "functions that only tests call may panic as tests do")]

mod alerts;
mod asking;
mod bad_input;
mod bad_tensors;
mod cancel;
mod chaos;
mod clients;
mod clocks;
mod command;
mod converting;
mod distilled;
mod finished_pictures;
mod generate;
mod house;
mod inspecting;
mod layouts;
mod limits;
mod loadtesting;
mod loras;
mod metrics;
mod model_files;
mod models;
mod modifying;
mod operating;
mod operations;
mod outputs;
mod pictures;
mod processes;
mod queue;
mod recovery;
mod references;
mod scaling;
mod sweep;
mod tiny;
mod tls;
mod tracing;
