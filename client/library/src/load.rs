//! What load tests are made of: when requests come, and what their times were.
//!
//! A request's times count from when it was to be sent, not from when it was: a server that holds up its callers makes them longer, and
//! nothing makes them fewer (no *coordinated omission*).

mod arrivals;
mod samples;

pub use arrivals::{Arrivals, Poisson};
pub use samples::{Percentiles, Samples};
