//! A backend that computes nothing: a network built over it is the list of the tensors that it asks for.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::{Activation, Backend, ConvGeometry, Epilogue, Margins, Mask, ModelError, Piece};
use crate::weights::WeightTensor;

/// The tensors that were asked for, by name, each with its shape.
#[derive(Default)]
pub(crate) struct Outline {
    asked: Mutex<Vec<(String, Vec<usize>)>>,
}

impl Outline {
    /// Notes a tensor, and gives one without values in its place.
    pub(super) fn tensor(&self, name: String, shape: &[usize]) -> WeightTensor<'static> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((name, shape.to_vec()));
        WeightTensor::without_values(shape)
    }

    /// What was asked for, in that order.
    pub(crate) fn into_asked(self) -> Vec<(String, Vec<usize>)> {
        self.asked.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backend of an outline.
pub(crate) struct Nothing;

/// What an operation answers: nobody runs a network that has no values.
fn nothing<T>() -> Result<T, ModelError> {
    Err(ModelError::Compute("an outline of a network has no values".into()))
}

impl Backend for Nothing {
    type Tensor = ();
    type Conv = ();
    type Linear = ();
    type Geglu = ();
    type GroupNorm = ();
    type GroupMoments = ();
    type LayerNorm = ();
    type Embedding = ();
    type SelfAttention = ();
    type KeysValues = ();

    fn pack_conv(&self, _: &WeightTensor<'_>, _: &WeightTensor<'_>, _: ConvGeometry) -> Result<(), ModelError> {
        Ok(())
    }

    fn pack_linear(&self, _: &WeightTensor<'_>, _: Option<&WeightTensor<'_>>) -> Result<(), ModelError> {
        Ok(())
    }

    fn pack_geglu(&self, _: &WeightTensor<'_>, _: &WeightTensor<'_>) -> Result<(), ModelError> {
        Ok(())
    }

    fn pack_self_attention(
        &self,
        _: &[WeightTensor<'_>; 3],
        _: Option<&[WeightTensor<'_>; 3]>,
        _: usize,
    ) -> Result<(), ModelError> {
        Ok(())
    }

    fn pack_group_norm(&self, _: &WeightTensor<'_>, _: &WeightTensor<'_>, _: usize, _: f64) -> Result<(), ModelError> {
        Ok(())
    }

    fn pack_layer_norm(&self, _: &WeightTensor<'_>, _: &WeightTensor<'_>, _: f64) -> Result<(), ModelError> {
        Ok(())
    }

    fn pack_embedding(&self, _: &WeightTensor<'_>) -> Result<(), ModelError> {
        Ok(())
    }

    fn upload_image(&self, _: &[f32], _: [usize; 4]) -> Result<(), ModelError> {
        nothing()
    }

    fn upload_tokens(&self, _: &[f32], _: [usize; 3]) -> Result<(), ModelError> {
        nothing()
    }

    fn download(&self, (): &()) -> Result<Vec<f32>, ModelError> {
        nothing()
    }

    fn image_size(&self, (): &()) -> Result<(usize, usize), ModelError> {
        nothing()
    }

    fn conv2d(&self, (): &(), (): &(), _: Epilogue<'_, ()>) -> Result<(), ModelError> {
        nothing()
    }

    fn conv2d_band(&self, (): &(), (): &(), _: Margins, _: Epilogue<'_, ()>) -> Result<(), ModelError> {
        nothing()
    }

    fn upsample_conv2d(&self, (): &(), (): &(), _: (usize, usize), _: Epilogue<'_, ()>) -> Result<(), ModelError> {
        nothing()
    }

    fn linear(&self, (): &(), (): &(), _: Epilogue<'_, ()>) -> Result<(), ModelError> {
        nothing()
    }

    fn geglu(&self, (): &(), (): &(), _: Option<&()>) -> Result<(), ModelError> {
        nothing()
    }

    fn group_norm(&self, (): &(), (): &(), _: Activation) -> Result<(), ModelError> {
        nothing()
    }

    fn group_moments(&self, (): &(), _: &[&()]) -> Result<(), ModelError> {
        nothing()
    }

    fn group_norm_rows(&self, (): &(), (): &(), _: &[&()], _: Activation) -> Result<(), ModelError> {
        nothing()
    }

    fn layer_norm(&self, (): &(), (): &()) -> Result<(), ModelError> {
        nothing()
    }

    fn self_attention(&self, (): &(), (): &(), _: Mask, _: Option<&()>) -> Result<(), ModelError> {
        nothing()
    }

    fn keys_values(&self, _: [&(); 2], (): &(), _: usize, _: [Option<&()>; 2]) -> Result<(), ModelError> {
        nothing()
    }

    fn bytes(&self, (): &()) -> usize {
        0
    }

    fn attention(&self, (): &(), _: &[&()], _: usize) -> Result<(), ModelError> {
        nothing()
    }

    fn concat_channels(&self, (): &(), (): &()) -> Result<(), ModelError> {
        nothing()
    }

    fn rows(&self, (): &(), _: Range<usize>) -> Result<(), ModelError> {
        nothing()
    }

    fn pictures(&self, (): &(), _: Range<usize>) -> Result<(), ModelError> {
        nothing()
    }

    fn assemble(&self, _: &[Piece<'_, ()>], _: usize, _: usize) -> Result<(), ModelError> {
        nothing()
    }

    fn stack_rows(&self, _: &[&()]) -> Result<(), ModelError> {
        nothing()
    }

    fn image_to_tokens(&self, (): &()) -> Result<(), ModelError> {
        nothing()
    }

    fn tokens_to_image(&self, (): &(), _: (usize, usize)) -> Result<(), ModelError> {
        nothing()
    }

    fn embed(&self, (): &(), (): &(), _: &[Vec<u32>]) -> Result<(), ModelError> {
        nothing()
    }
}
