//! The engine with a fake model: who is in each evaluation, what happens to the others when one fails or leaves, and how one
//! goes on elsewhere.

mod batch;
mod bench;
mod checkpoint;
mod denoiser;
mod fake;
mod policy;
mod recovery;
mod run;
mod worker;
