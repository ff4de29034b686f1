//! Denoisers that come and go by the autoscaling signal: KEDA's and Kubernetes' documented decisions over Darkroom's own.
//!
//! [`hpa`] and [`keda`] decide as their documentation says, [`controller`] is both as they would be installed. [`world`] plays a day in
//! seconds: requests come by a trace, the orchestrator's real queue takes them in and gives out slots and the signal, the engine's real
//! batches run on a clock, and [`pods`] start and leave with the delays of a cluster. [`figures`] say what came of it, [`sweep`] compares
//! settings and picks those that are shipped, [`around`] changes them one by one. [`live`] lets the same controller start and stop real processes, on a [`stand`], by the real
//! `/metrics`.
//!
//! What the simulation leaves out: text encoders and VAEs (they add the same to every request), and the age of the load reports by which
//! the orchestrator chooses a denoiser (here they are always fresh).

pub mod around;
pub mod controller;
pub mod figures;
pub mod hpa;
pub mod keda;
pub mod live;
pub mod pods;
pub mod prometheus;
pub mod scene;
pub mod stand;
pub mod sweep;
mod worker;
pub mod world;
