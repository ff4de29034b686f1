//! From one layout of a model to another: `.ckpt`, a single safetensors file, a diffusers folder.
//!
//! The source is read as a service reads it, part by part; [`model`] holds each part against the network that would be built of it, so
//! that nothing is missing in what is written. [`single`] and [`folder`] give every tensor its name and place there, and [`tensors`]
//! writes one at a time, from where it lies to where it goes. [`target`] sees to it that nothing is overwritten and nothing is left half.

mod error;
mod folder;
mod model;
mod single;
mod target;
mod tensors;

use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use crate::left_out::LeftOut;
use crate::source::{ModelSource, SourceOptions};
pub use error::ConvertError;
use model::Model;
use target::{Kind, TargetFile, TargetFolder};

/// How a model is converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Whether the tensors are rounded to half precision; without it they keep their types and bits.
    pub half: bool,
    /// Whether to take the UNet's moving average from a full checkpoint, see [`SourceOptions::ema`].
    pub ema: bool,
}

/// What a conversion did.
#[derive(Debug)]
pub struct Converted {
    /// Tensors that were written.
    pub tensors: usize,
    /// Bytes of their elements.
    pub bytes: u64,
    /// What the source holds and the target does not.
    pub left_out: Vec<LeftOut>,
}

/// Converts a model: "pocket", or the path of a folder or file, to a safetensors file, where the name of `target` ends so, or to a
/// diffusers folder. Once `stop` is set it ends before the next tensor.
///
/// A tensor is in memory once at a time; the target appears under its name when it is whole.
///
/// # Errors
/// [`ConvertError`]: when the source is not a whole model, the target exists or cannot hold it, or writing fails. Nothing is left
/// behind then.
pub fn convert(
    source: &str,
    target: &Path,
    options: ConvertOptions,
    stop: &AtomicBool,
) -> Result<Converted, ConvertError> {
    // Before the source is looked at: what is in the way is found at once.
    let kind = target::kind_of(target)?;
    let source = ModelSource::resolve(Some(source), SourceOptions { ema: options.ema })?;
    let model = Model::open(&source, options)?;
    let (tensors, bytes, lost) = match kind {
        Kind::File => {
            let tensors = single::tensors(&model, options.half)?;
            let file = TargetFile::create(target)?;
            let written = tensors::write(file.file(), target, &tensors, stop)?;
            file.finish()?;
            (tensors.len(), written, single::lost(&model)?)
        }
        Kind::Folder => {
            let folder = TargetFolder::create(target)?;
            let (tensors, written) = folder::write(&model, &folder, options.half, stop)?;
            folder.finish()?;
            (tensors, written, Vec::new())
        }
    };
    let left_out = model.left_out.into_iter().chain(lost).collect();
    Ok(Converted { tensors, bytes, left_out })
}
