//! The shape of a model: what `config.json` says of the text tower, the UNet, the autoencoder and the safety checker, checked.
//!
//! The layouts are those of diffusers and transformers. Only what Stable Diffusion v1's architecture has can be said here;
//! a configuration that asks for more (SD 2, SDXL, class embeddings, …) is refused by name, and a value that no such model
//! could have is refused with its allowed range, before anything is allocated from it. Single files carry no configuration:
//! `infer` reads it off the tensors' shapes.

mod clip;
mod defaults;
mod fields;
mod infer;
mod pipeline;
mod preprocessor;
mod schedule;
mod unet;
mod vae;
mod vision;
mod written;

pub use clip::ClipConfig;
pub use defaults::Defaults;
pub use preprocessor::PreprocessorConfig;
pub use unet::UNetConfig;
pub use vae::VaeConfig;
pub use vision::VisionConfig;

pub(crate) use fields::Fields;
pub(crate) use pipeline::check_pipeline;
pub(crate) use schedule::{read_schedule, reference_schedule};
pub(crate) use written::{pipeline_json, schedule_json};
