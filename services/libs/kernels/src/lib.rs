//! CPU kernels of Stable Diffusion v1: slices in, slices out, chosen at run time by the CPU's instructions.
//!
//! README.md explains how the kernels are built and what they reach. What they promise together: an output's bits depend on
//! its own inputs and the instruction set alone, never on the rest of a batch or the number of threads. Work is split over the
//! current rayon pool.
#![warn(clippy::undocumented_unsafe_blocks)]
#![allow(unsafe_code)] // intrinsics, and tasks that write one buffer side by side

mod attention;
mod blocks;
mod buffer;
mod conv;
mod convert;
mod element;
mod elementwise;
mod epilogue;
mod fill;
mod gemm;
mod group_norm;
mod isa;
mod key_values;
mod layer_norm;
mod layout;
mod math;
mod matrix;
mod memory;
mod pack;
mod peak;
mod rows;
mod simd;
mod storage;
mod tile;
mod transform;
mod winograd;

pub use attention::{Mask, attention};
pub use buffer::Buffer;
pub use conv::{Image, Window, conv2d};
pub use convert::convert;
pub use element::Precision;
pub use elementwise::{Function, add, apply, softmax};
pub use epilogue::{Activation, Epilogue, GroupBias, Residual};
pub use gemm::gemm;
pub use group_norm::{GroupNorm, GroupScales, group_norm, group_norm_rows, group_scales};
pub use isa::{ISA_VARIABLE, Isa, IsaError, Level};
pub use key_values::KeyValues;
pub use layer_norm::{LayerNorm, layer_norm};
pub use matrix::{Matrix, MatrixMut, Values, ValuesMut};
pub use pack::PackedWeights;
pub use peak::peak_flops;
pub use winograd::{Tiles, WinogradWeights, winograd};
