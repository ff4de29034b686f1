//! Load: workers without models, a generator that does not wait for answers, and the figures that come of it.
//!
//! [`clock`] plays a fleet of hundreds of workers in one process: they keep the protocol, and a clock stands for the model.
//! [`arrivals`] says when requests come, [`asking`] sends them then, whatever became of the ones before, [`figures`] and
//! [`fairness`] say what that came to, [`usage`] what it cost a process. [`autoscale`] lets workers come and go by the load.

pub mod arrivals;
pub mod asking;
pub mod autoscale;
pub mod clock;
pub mod fairness;
pub mod figures;
pub mod files;
pub mod outcome;
pub mod report;
pub mod usage;
