//! The one seam for compute: what the networks ask of a machine, and who answers.
//!
//! [`Backend`] is the seam. The networks in [`crate::clip`], [`crate::unet`] and [`crate::vae`] are written once over it and
//! know neither a tensor library nor a memory layout. [`cpu::Cpu`] answers for CPUs, [`candle::Candle`] for CUDA and Metal. [`Scope`] walks the
//! names of a checkpoint and hands each weight to a backend, which keeps it in whatever form its kernels like.

mod backend;
pub mod candle;
pub mod cpu;
mod error;
mod options;
mod outline;
mod scope;
mod sites;
pub mod timed;

pub use backend::{Activation, Backend, ConvGeometry, Epilogue, Margins, Mask, Padding, Piece};
pub use error::ModelError;
pub use options::{ComputeOptions, Device, Precision, UnknownDevice, UnknownPrecision};
pub(crate) use outline::{Nothing, Outline};
pub use scope::Scope;
pub(crate) use sites::{Place, Site};
