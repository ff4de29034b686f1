//! The models of Stable Diffusion v1: text tower, UNet and autoencoder over one compute seam, with the weights,
//! vocabulary and noise they need.
//!
//! A model is found by [`source::ModelSource`], which gives each part's [`config`] and [`weights`], whatever the layout on
//! disk. The networks ([`clip`], [`unet`], [`vae`], [`safety`]) are written once over [`compute`]; services use them through the
//! slices-in, slices-out facades of [`stage`].

pub mod clip;
pub mod compute;
pub mod config;
pub mod convert;
pub mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
pub mod inversion;
mod left_out;
pub mod lora;
mod network;
pub mod noise;
mod outline;
mod pocket;
pub mod prompt;
pub mod safety;
pub mod source;
pub mod stage;
pub mod tokenizer;
pub mod unet;
pub mod vae;
pub mod weights;

pub use error::LoadError;
