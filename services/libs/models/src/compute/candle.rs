//! The seam on candle: CUDA and Metal in f32, bf16 or f16.
//!
//! Images are kept channels-first, as candle's convolutions want them; the views between images and tokens are transposed
//! and cost nothing until something needs them contiguous. Nothing is fused: an epilogue is a few pointwise passes.

mod attention;
mod conv;
mod device;
mod linear;
mod norm;
mod pointwise;

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

pub use attention::{KeysValues, SelfAttention};
pub use conv::Conv;
pub use linear::Linear;
pub use norm::{GroupMoments, GroupNorm, LayerNorm};

use super::{Activation, Backend, ConvGeometry, Epilogue, Margins, Mask, ModelError, Piece};
use crate::weights::WeightTensor;

/// candle on one device, in one number format.
#[derive(Clone, Debug)]
pub struct Candle {
    device: Device,
    dtype: DType,
}

impl Backend for Candle {
    type Tensor = Tensor;
    type Conv = Conv;
    type Linear = Linear;
    type Geglu = Linear;
    type GroupNorm = GroupNorm;
    type GroupMoments = GroupMoments;
    type LayerNorm = LayerNorm;
    type Embedding = Tensor;
    type SelfAttention = SelfAttention;
    type KeysValues = KeysValues;

    fn pack_conv(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        geometry: ConvGeometry,
    ) -> Result<Conv, ModelError> {
        Ok(Conv { weight: self.weight(weight)?, bias: self.weight(bias)?, geometry })
    }

    fn pack_linear(&self, weight: &WeightTensor<'_>, bias: Option<&WeightTensor<'_>>) -> Result<Linear, ModelError> {
        let bias = bias.map(|bias| self.weight(bias)).transpose()?;
        Ok(Linear::new(&self.weight(weight)?, bias)?)
    }

    fn pack_geglu(&self, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>) -> Result<Linear, ModelError> {
        self.pack_linear(weight, Some(bias))
    }

    fn pack_self_attention(
        &self,
        [q, k, v]: &[WeightTensor<'_>; 3],
        biases: Option<&[WeightTensor<'_>; 3]>,
        heads: usize,
    ) -> Result<SelfAttention, ModelError> {
        let bias = |i: usize| biases.map(|biases| &biases[i]);
        Ok(SelfAttention {
            to_q: self.pack_linear(q, bias(0))?,
            to_k: self.pack_linear(k, bias(1))?,
            to_v: self.pack_linear(v, bias(2))?,
            heads,
        })
    }

    fn pack_group_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        groups: usize,
        eps: f64,
    ) -> Result<GroupNorm, ModelError> {
        Ok(GroupNorm { weight: self.vector(weight)?, bias: self.vector(bias)?, groups, eps })
    }

    fn pack_layer_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        eps: f64,
    ) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm { weight: self.vector(weight)?, bias: self.vector(bias)?, eps })
    }

    fn pack_embedding(&self, table: &WeightTensor<'_>) -> Result<Tensor, ModelError> {
        self.weight(table)
    }

    fn upload_image(&self, data: &[f32], shape: [usize; 4]) -> Result<Tensor, ModelError> {
        Ok(Tensor::from_slice(data, &shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn upload_tokens(&self, data: &[f32], shape: [usize; 3]) -> Result<Tensor, ModelError> {
        Ok(Tensor::from_slice(data, &shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>, ModelError> {
        Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn image_size(&self, image: &Tensor) -> Result<(usize, usize), ModelError> {
        let (_, _, height, width) = image.dims4()?;
        Ok((height, width))
    }

    fn conv2d(&self, conv: &Conv, x: &Tensor, epilogue: Epilogue<'_, Tensor>) -> Result<Tensor, ModelError> {
        Ok(pointwise::finish(conv.apply(x)?, Some(&conv.bias), &epilogue)?)
    }

    fn upsample_conv2d(
        &self,
        conv: &Conv,
        x: &Tensor,
        (height, width): (usize, usize),
        epilogue: Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        let enlarged = x.contiguous()?.upsample_nearest2d(height, width)?;
        Ok(pointwise::finish(conv.apply(&enlarged)?, Some(&conv.bias), &epilogue)?)
    }

    fn conv2d_band(
        &self,
        conv: &Conv,
        x: &Tensor,
        margins: Margins,
        epilogue: Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        Ok(pointwise::finish(conv.apply_to_band(x, margins)?, Some(&conv.bias), &epilogue)?)
    }

    fn linear(&self, linear: &Linear, x: &Tensor, epilogue: Epilogue<'_, Tensor>) -> Result<Tensor, ModelError> {
        Ok(pointwise::finish(linear.apply(x)?, linear.bias.as_ref(), &epilogue)?)
    }

    fn geglu(&self, geglu: &Linear, x: &Tensor, added: Option<&Tensor>) -> Result<Tensor, ModelError> {
        let bias = geglu.bias.as_ref().ok_or_else(|| ModelError::Compute("a gated layer has no bias".into()))?;
        let mut both = geglu.apply(x)?;
        if let Some(added) = added {
            both = (both + added)?;
        }
        Ok(pointwise::geglu(&both, bias)?)
    }

    fn group_norm(&self, norm: &GroupNorm, x: &Tensor, activation: Activation) -> Result<Tensor, ModelError> {
        Ok(pointwise::group_norm(norm, x, activation)?)
    }

    fn group_moments(&self, norm: &GroupNorm, bands: &[&Tensor]) -> Result<GroupMoments, ModelError> {
        Ok(pointwise::group_moments(norm, bands)?)
    }

    fn group_norm_rows(
        &self,
        norm: &GroupNorm,
        moments: &GroupMoments,
        pieces: &[&Tensor],
        activation: Activation,
    ) -> Result<Tensor, ModelError> {
        let x = self.stack_rows(pieces)?;
        Ok(pointwise::group_norm_by(norm, moments, &x, activation)?)
    }

    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(pointwise::layer_norm(norm, x)?)
    }

    fn self_attention(
        &self,
        layer: &SelfAttention,
        x: &Tensor,
        mask: Mask,
        added: Option<&Tensor>,
    ) -> Result<Tensor, ModelError> {
        let part = |index: usize| added.map(|added| third(added, index)).transpose();
        let [q, k, v] = [part(0)?, part(1)?, part(2)?];
        let q = self.linear(&layer.to_q, x, Epilogue { added: q.as_ref(), ..Epilogue::none() })?;
        let keys_values = self.keys_values([&layer.to_k, &layer.to_v], x, layer.heads, [k.as_ref(), v.as_ref()])?;
        Ok(attention::attention(&q, &[&keys_values], layer.heads, mask)?)
    }

    fn keys_values(
        &self,
        projections: [&Linear; 2],
        x: &Tensor,
        heads: usize,
        added: [Option<&Tensor>; 2],
    ) -> Result<KeysValues, ModelError> {
        let project = |i: usize| self.linear(projections[i], x, Epilogue { added: added[i], ..Epilogue::none() });
        Ok(KeysValues::new(&project(0)?, &project(1)?, heads)?)
    }

    fn bytes(&self, keys_values: &KeysValues) -> usize {
        keys_values.bytes()
    }

    fn attention(&self, q: &Tensor, keys_values: &[&KeysValues], heads: usize) -> Result<Tensor, ModelError> {
        Ok(attention::attention(q, keys_values, heads, Mask::None)?)
    }

    fn concat_channels(&self, first: &Tensor, second: &Tensor) -> Result<Tensor, ModelError> {
        Ok(Tensor::cat(&[first, second], 1)?)
    }

    fn rows(&self, image: &Tensor, rows: Range<usize>) -> Result<Tensor, ModelError> {
        Ok(image.narrow(2, rows.start, rows.len())?)
    }

    fn pictures(&self, x: &Tensor, pictures: Range<usize>) -> Result<Tensor, ModelError> {
        Ok(x.narrow(0, pictures.start, pictures.len())?.contiguous()?)
    }

    fn assemble(&self, pieces: &[Piece<'_, Tensor>], batch: usize, width: usize) -> Result<Tensor, ModelError> {
        let mut whole: Option<Tensor> = None;
        for Piece { picture, column, tokens } in pieces {
            let (pictures, _, columns) = tokens.dims3()?;
            let padded = tokens.pad_with_zeros(2, *column, width - column - columns)?;
            let padded = padded.pad_with_zeros(0, *picture, batch - picture - pictures)?;
            whole = Some(match whole {
                Some(whole) => (whole + padded)?,
                None => padded,
            });
        }
        whole.ok_or_else(|| ModelError::Compute("nothing is assembled of no pieces".into()))
    }

    fn stack_rows(&self, pieces: &[&Tensor]) -> Result<Tensor, ModelError> {
        Ok(Tensor::cat(pieces, 2)?)
    }

    fn image_to_tokens(&self, image: &Tensor) -> Result<Tensor, ModelError> {
        Ok(image.flatten_from(2)?.transpose(1, 2)?)
    }

    fn tokens_to_image(&self, tokens: &Tensor, (height, width): (usize, usize)) -> Result<Tensor, ModelError> {
        let (batch, _, channels) = tokens.dims3()?;
        Ok(tokens.transpose(1, 2)?.contiguous()?.reshape((batch, channels, height, width))?)
    }

    fn embed(&self, table: &Tensor, positions: &Tensor, ids: &[Vec<u32>]) -> Result<Tensor, ModelError> {
        let count = ids.first().map_or(0, Vec::len);
        let flat = Tensor::from_vec(ids.concat(), ids.len() * count, &self.device)?;
        let vectors = table.index_select(&flat, 0)?.reshape((ids.len(), count, ()))?;
        Ok(vectors.broadcast_add(&positions.narrow(0, 0, count)?)?)
    }
}

/// One of three equally wide parts of tokens, side by side.
fn third(tokens: &Tensor, index: usize) -> candle_core::Result<Tensor> {
    let width = tokens.dim(2)? / 3;
    tokens.narrow(2, index * width, width)?.contiguous()
}

impl Candle {
    /// A weight in the precision of the activations.
    fn weight(&self, tensor: &WeightTensor<'_>) -> Result<Tensor, ModelError> {
        let values = Tensor::from_vec(tensor.to_f32(), tensor.shape.as_slice(), &self.device)?;
        Ok(values.to_dtype(self.dtype)?)
    }

    /// A normalisation's weight: f32 always.
    fn vector(&self, tensor: &WeightTensor<'_>) -> Result<Tensor, ModelError> {
        Ok(Tensor::from_vec(tensor.to_f32(), tensor.shape.as_slice(), &self.device)?)
    }
}
