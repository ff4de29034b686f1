//! The safety checker as the autoencoder's service sees it: a finished picture in, scores out.

use super::{Identity, LoadedModel, check_length};
use crate::LoadError;
use crate::compute::candle::Candle;
use crate::compute::cpu::Cpu;
use crate::compute::{Backend, ComputeOptions, Device, ModelError, Precision, Scope};
use crate::config::PreprocessorConfig;
use crate::safety::concepts::Concepts;
use crate::safety::prepare;
use crate::safety::tower::VisionTower;
use crate::source::SafetySource;

pub use crate::safety::concepts::SafetyScores;

/// What looks at finished pictures.
pub trait SafetyModel: LoadedModel {
    /// A picture's bytes, RGB `[height, width, 3]`, of any size → what is found in it.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the length does not fit; [`ModelError::Compute`] when the tower's output is not finite: no picture
    /// passes because it could not be looked at.
    fn check(&mut self, rgb: &[u8], height: usize, width: usize) -> Result<SafetyScores, ModelError>;

    /// The picture's embedding alone, `[projection_dim]`, of which [`SafetyModel::check`] makes its scores.
    ///
    /// # Errors
    /// As for [`SafetyModel::check`].
    fn embed(&mut self, rgb: &[u8], height: usize, width: usize) -> Result<Vec<f32>, ModelError>;
}

/// Loads a safety checker. It computes in f32 whatever `options` say: scores are compared in their third digit.
///
/// # Errors
/// What does not fit about the device, the configuration or the weights.
pub fn load_safety_checker(source: &SafetySource, options: &ComputeOptions) -> Result<Box<dyn SafetyModel>, LoadError> {
    let options = ComputeOptions { precision: Precision::F32, ..*options };
    match options.device {
        Device::Cpu => build(Cpu::open(&options)?, source, &options),
        Device::Cuda(_) | Device::Metal => build(Candle::open(&options)?, source, &options),
    }
}

fn build<B: Backend>(
    backend: B,
    source: &SafetySource,
    options: &ComputeOptions,
) -> Result<Box<dyn SafetyModel>, LoadError> {
    let (config, preprocessor, weights) = source.open()?;
    let root = Scope::root(&backend, &weights);
    let tower = VisionTower::load(&root, &config)?;
    let concepts = Concepts::load(&root, config.projection_dim)?;
    weights.finish();
    Ok(Box::new(SafetyStage { identity: Identity::new(&weights, options), backend, preprocessor, tower, concepts }))
}

struct SafetyStage<B: Backend> {
    identity: Identity,
    backend: B,
    preprocessor: PreprocessorConfig,
    tower: VisionTower<B>,
    concepts: Concepts,
}

impl<B: Backend> SafetyModel for SafetyStage<B> {
    fn check(&mut self, rgb: &[u8], height: usize, width: usize) -> Result<SafetyScores, ModelError> {
        let embedding = self.embed(rgb, height, width)?;
        Ok(self.concepts.scores(&embedding))
    }

    fn embed(&mut self, rgb: &[u8], height: usize, width: usize) -> Result<Vec<f32>, ModelError> {
        check_length("image", rgb.len(), &[height, width, 3])?;
        let square = prepare::cropped(&self.preprocessor, rgb, height, width);
        let picture = prepare::normalised(&self.preprocessor, &square);
        let Self { backend, tower, .. } = &*self;
        let embedding = backend.pass(|| tower.embed(backend, &picture))?;
        if !embedding.iter().all(|value| value.is_finite()) {
            return Err(ModelError::Compute("the safety checker's embedding is not finite".into()));
        }
        Ok(embedding)
    }
}

impl<B: Backend> LoadedModel for SafetyStage<B> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn warm(&mut self) -> Result<(), ModelError> {
        self.check(&[0; 3], 1, 1).map(drop)
    }
}
