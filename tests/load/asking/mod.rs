//! Sends a trace's requests when they are due, whatever became of those before, and writes down what came of each.

mod direct;
mod orchestrated;
mod runs;
mod target;

pub use runs::{closed, open};
pub use target::{Target, Wish};
