//! A backend that measures another: each operation is handed on, and its time is added to that of its layer group.
//!
//! The time is what passes between call and return, so it means something where operations are done when they return: on a
//! CPU. Measuring costs two looks at the clock an operation, less than a thousandth of any step.

mod timings;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub use timings::{LayerGroup, Timings};

use super::{Activation, Backend, ConvGeometry, Epilogue, Margins, Mask, ModelError, Piece};
use crate::weights::WeightTensor;

/// `B` with a clock.
pub struct Timed<B> {
    backend: B,
    timings: Arc<Timings>,
}

/// A packed convolution and the group that it counts to.
pub struct Conv<C> {
    conv: C,
    group: LayerGroup,
}

impl<B> Timed<B> {
    /// Measures `backend` into `timings`.
    pub fn new(backend: B, timings: &Arc<Timings>) -> Self {
        Self { backend, timings: Arc::clone(timings) }
    }

    fn time<T>(&self, group: LayerGroup, operation: impl FnOnce(&B) -> T) -> T {
        let began = Instant::now();
        let result = operation(&self.backend);
        self.timings.add(group, began.elapsed());
        result
    }
}

impl<B: Backend> Backend for Timed<B> {
    type Tensor = B::Tensor;
    type Conv = Conv<B::Conv>;
    type Linear = B::Linear;
    type Geglu = B::Geglu;
    type GroupNorm = B::GroupNorm;
    type GroupMoments = B::GroupMoments;
    type LayerNorm = B::LayerNorm;
    type Embedding = B::Embedding;
    type SelfAttention = B::SelfAttention;
    type KeysValues = B::KeysValues;

    fn pass<T: Send>(&self, pass: impl FnOnce() -> T + Send) -> T {
        self.backend.pass(pass)
    }

    fn pack_conv(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        geometry: ConvGeometry,
    ) -> Result<Self::Conv, ModelError> {
        let group = match weight.shape.last() {
            _ if geometry.upsampled => LayerGroup::UpsampleConv,
            Some(1) => LayerGroup::Conv1x1,
            _ => LayerGroup::Conv3x3,
        };
        Ok(Conv { conv: self.backend.pack_conv(weight, bias, geometry)?, group })
    }

    fn pack_linear(
        &self,
        weight: &WeightTensor<'_>,
        bias: Option<&WeightTensor<'_>>,
    ) -> Result<Self::Linear, ModelError> {
        self.backend.pack_linear(weight, bias)
    }

    fn pack_geglu(&self, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>) -> Result<Self::Geglu, ModelError> {
        self.backend.pack_geglu(weight, bias)
    }

    fn pack_self_attention(
        &self,
        weights: &[WeightTensor<'_>; 3],
        biases: Option<&[WeightTensor<'_>; 3]>,
        heads: usize,
    ) -> Result<Self::SelfAttention, ModelError> {
        self.backend.pack_self_attention(weights, biases, heads)
    }

    fn pack_group_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        groups: usize,
        eps: f64,
    ) -> Result<Self::GroupNorm, ModelError> {
        self.backend.pack_group_norm(weight, bias, groups, eps)
    }

    fn pack_layer_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        eps: f64,
    ) -> Result<Self::LayerNorm, ModelError> {
        self.backend.pack_layer_norm(weight, bias, eps)
    }

    fn pack_embedding(&self, table: &WeightTensor<'_>) -> Result<Self::Embedding, ModelError> {
        self.backend.pack_embedding(table)
    }

    fn upload_image(&self, data: &[f32], shape: [usize; 4]) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.upload_image(data, shape))
    }

    fn upload_tokens(&self, data: &[f32], shape: [usize; 3]) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.upload_tokens(data, shape))
    }

    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.download(x))
    }

    fn image_size(&self, image: &Self::Tensor) -> Result<(usize, usize), ModelError> {
        self.backend.image_size(image)
    }

    fn conv2d(
        &self,
        conv: &Self::Conv,
        x: &Self::Tensor,
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(conv.group, |backend| backend.conv2d(&conv.conv, x, epilogue))
    }

    fn upsample_conv2d(
        &self,
        conv: &Self::Conv,
        x: &Self::Tensor,
        size: (usize, usize),
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(conv.group, |backend| backend.upsample_conv2d(&conv.conv, x, size, epilogue))
    }

    fn conv2d_band(
        &self,
        conv: &Self::Conv,
        x: &Self::Tensor,
        margins: Margins,
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(conv.group, |backend| backend.conv2d_band(&conv.conv, x, margins, epilogue))
    }

    fn linear(
        &self,
        linear: &Self::Linear,
        x: &Self::Tensor,
        epilogue: Epilogue<'_, Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Linear, |backend| backend.linear(linear, x, epilogue))
    }

    fn geglu(
        &self,
        geglu: &Self::Geglu,
        x: &Self::Tensor,
        added: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Geglu, |backend| backend.geglu(geglu, x, added))
    }

    fn group_norm(
        &self,
        norm: &Self::GroupNorm,
        x: &Self::Tensor,
        activation: Activation,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Norm, |backend| backend.group_norm(norm, x, activation))
    }

    fn group_moments(&self, norm: &Self::GroupNorm, bands: &[&Self::Tensor]) -> Result<Self::GroupMoments, ModelError> {
        self.time(LayerGroup::Norm, |backend| backend.group_moments(norm, bands))
    }

    fn group_norm_rows(
        &self,
        norm: &Self::GroupNorm,
        moments: &Self::GroupMoments,
        pieces: &[&Self::Tensor],
        activation: Activation,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Norm, |backend| backend.group_norm_rows(norm, moments, pieces, activation))
    }

    fn layer_norm(&self, norm: &Self::LayerNorm, x: &Self::Tensor) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Norm, |backend| backend.layer_norm(norm, x))
    }

    fn self_attention(
        &self,
        layer: &Self::SelfAttention,
        x: &Self::Tensor,
        mask: Mask,
        added: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::SelfAttention, |backend| backend.self_attention(layer, x, mask, added))
    }

    fn keys_values(
        &self,
        projections: [&Self::Linear; 2],
        x: &Self::Tensor,
        heads: usize,
        added: [Option<&Self::Tensor>; 2],
    ) -> Result<Self::KeysValues, ModelError> {
        self.time(LayerGroup::KeysValues, |backend| backend.keys_values(projections, x, heads, added))
    }

    fn bytes(&self, keys_values: &Self::KeysValues) -> usize {
        self.backend.bytes(keys_values)
    }

    fn attention(
        &self,
        q: &Self::Tensor,
        keys_values: &[&Self::KeysValues],
        heads: usize,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::CrossAttention, |backend| backend.attention(q, keys_values, heads))
    }

    fn concat_channels(&self, first: &Self::Tensor, second: &Self::Tensor) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.concat_channels(first, second))
    }

    fn rows(&self, image: &Self::Tensor, rows: Range<usize>) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.rows(image, rows))
    }

    fn pictures(&self, x: &Self::Tensor, pictures: Range<usize>) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.pictures(x, pictures))
    }

    fn assemble(
        &self,
        pieces: &[Piece<'_, Self::Tensor>],
        batch: usize,
        width: usize,
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.assemble(pieces, batch, width))
    }

    fn stack_rows(&self, pieces: &[&Self::Tensor]) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.stack_rows(pieces))
    }

    fn image_to_tokens(&self, image: &Self::Tensor) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.image_to_tokens(image))
    }

    fn tokens_to_image(&self, tokens: &Self::Tensor, size: (usize, usize)) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.tokens_to_image(tokens, size))
    }

    fn embed(
        &self,
        table: &Self::Embedding,
        positions: &Self::Embedding,
        ids: &[Vec<u32>],
    ) -> Result<Self::Tensor, ModelError> {
        self.time(LayerGroup::Other, |backend| backend.embed(table, positions, ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ModelSource;
    use crate::stage::{self, ComputeOptions, Device, Precision, UnetModel, UnetRow};

    const OPTIONS: ComputeOptions = ComputeOptions { device: Device::Cpu, precision: Precision::F32, threads: None };

    fn pocket() -> ModelSource {
        ModelSource::resolve(None, Default::default()).unwrap()
    }

    fn groups(timings: &Timings) -> Vec<LayerGroup> {
        timings.take().into_iter().map(|(group, _)| group).collect()
    }

    fn predict(unet: &mut dyn UnetModel) -> Vec<Vec<f32>> {
        let texts = [0.5, -0.5].map(|value| unet.context(&vec![value; 77 * 96], 77).unwrap());
        let row = |context| UnetRow { latents: &[0.25; 256], timestep: 500.0, context, guidance_scale: None };
        unet.predict(&texts.each_ref().map(row), 8, 8).unwrap()
    }

    #[test]
    fn a_timed_unet_computes_the_same_and_knows_the_text_from_the_picture() {
        let (source, timings) = (pocket(), Arc::default());
        let mut timed = stage::load_unet_timed(&source, &OPTIONS, &timings).unwrap();
        let mut plain = stage::load_unet(&source, &OPTIONS).unwrap();
        for _ in 0..2 {
            assert_eq!(predict(&mut *timed), predict(&mut *plain));
            assert_eq!(groups(&timings), LayerGroup::ALL);
        }
    }

    #[test]
    fn the_other_stages_attend_to_themselves() {
        use LayerGroup::*;

        let (source, timings) = (pocket(), Arc::default());
        let mut text_encoder = stage::load_text_encoder_timed(&source, &OPTIONS, &timings).unwrap();
        text_encoder.encode(&[vec![0; 77]], 0).unwrap();
        assert_eq!(groups(&timings), [Linear, SelfAttention, Norm, Other]);

        let mut vae = stage::load_vae_timed(&source, &OPTIONS, &timings).unwrap();
        vae.decode(&[0.5; 4 * 4 * 4], 4, 4).unwrap();
        let found = groups(&timings);
        assert!(found.contains(&SelfAttention) && found.contains(&UpsampleConv), "{found:?}");
        assert!(!found.contains(&CrossAttention), "{found:?}");
    }
}
