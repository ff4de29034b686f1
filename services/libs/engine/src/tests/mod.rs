//! The engine with a fake model: who is in each evaluation, and what happens to the others when one fails or leaves.

mod batch;
mod denoiser;
mod fake;
mod run;
mod worker;
