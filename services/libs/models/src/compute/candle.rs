//! The seam on candle: CPUs in f32, CUDA and Metal in f32, bf16 or f16.
//!
//! Images are kept channels-first, as candle's convolutions want them; the views between images and tokens are transposed
//! and cost nothing until something needs them contiguous. Nothing is fused: an epilogue is a few pointwise passes.

mod attention;
mod conv;
mod device;
mod norm;
mod weights;

use candle_core::{DType, Device, Tensor};

pub use attention::KeysValues;
pub use conv::Conv;
pub use norm::{GroupNorm, LayerNorm};
pub use weights::Linear;

use super::{Activation, Backend, ConvGeometry, Epilogue, Mask, ModelError};
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
    type LayerNorm = LayerNorm;
    type Embedding = Tensor;
    type KeysValues = KeysValues;

    fn pack_conv(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        geometry: ConvGeometry,
    ) -> Result<Conv, ModelError> {
        Ok(Conv::new(self.weight(weight)?, self.weight(bias)?, geometry)?)
    }

    fn pack_linear(&self, weight: &WeightTensor<'_>, bias: Option<&WeightTensor<'_>>) -> Result<Linear, ModelError> {
        let bias = bias.map(|bias| self.weight(bias)).transpose()?;
        Ok(Linear::new(&self.weight(weight)?, bias)?)
    }

    fn pack_geglu(&self, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>) -> Result<Linear, ModelError> {
        self.pack_linear(weight, Some(bias))
    }

    fn pack_group_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        groups: usize,
        eps: f64,
    ) -> Result<GroupNorm, ModelError> {
        Ok(GroupNorm::new(&self.weight_f32(weight)?, &self.weight_f32(bias)?, groups, eps)?)
    }

    fn pack_layer_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        eps: f64,
    ) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm::new(self.weight_f32(weight)?, self.weight_f32(bias)?, eps))
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
        Ok(finish(conv.forward(x)?, epilogue)?)
    }

    fn upsample_conv2d(&self, conv: &Conv, x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor, ModelError> {
        Ok(conv.forward(&x.contiguous()?.upsample_nearest2d(height, width)?)?)
    }

    fn linear(&self, linear: &Linear, x: &Tensor, epilogue: Epilogue<'_, Tensor>) -> Result<Tensor, ModelError> {
        Ok(finish(linear.forward(x)?, epilogue)?)
    }

    fn geglu(&self, geglu: &Linear, x: &Tensor) -> Result<Tensor, ModelError> {
        let both = geglu.forward(x)?.chunk(2, 2)?;
        match both.as_slice() {
            [value, gate] => Ok((value * gate.contiguous()?.gelu_erf()?)?),
            _ => Err(ModelError::Compute("a gated layer has an odd number of outputs".into())),
        }
    }

    fn group_norm(&self, norm: &GroupNorm, x: &Tensor, activation: Activation) -> Result<Tensor, ModelError> {
        Ok(activate(norm.forward(x)?, activation)?)
    }

    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(norm.forward(x)?)
    }

    fn keys_values(&self, to_k: &Linear, to_v: &Linear, x: &Tensor, heads: usize) -> Result<KeysValues, ModelError> {
        Ok(KeysValues::new(&to_k.forward(x)?, &to_v.forward(x)?, heads)?)
    }

    fn attention(
        &self,
        q: &Tensor,
        keys_values: &[&KeysValues],
        heads: usize,
        mask: Mask,
    ) -> Result<Tensor, ModelError> {
        Ok(attention::attention(q, keys_values, heads, mask)?)
    }

    fn concat_channels(&self, first: &Tensor, second: &Tensor) -> Result<Tensor, ModelError> {
        Ok(Tensor::cat(&[first, second], 1)?)
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

/// What [`Epilogue`] promises, one pass after another.
fn finish(mut y: Tensor, epilogue: Epilogue<'_, Tensor>) -> candle_core::Result<Tensor> {
    if let Some(bias) = epilogue.channel_bias {
        let (batch, _, channels) = bias.dims3()?;
        y = y.broadcast_add(&bias.reshape((batch, channels, 1, 1))?)?;
    }
    y = activate(y, epilogue.activation)?;
    match epilogue.residual {
        Some(residual) => y + residual,
        None => Ok(y),
    }
}

fn activate(x: Tensor, activation: Activation) -> candle_core::Result<Tensor> {
    match activation {
        Activation::None => Ok(x),
        Activation::Silu => x.silu(),
        Activation::QuickGelu => &x * candle_nn::ops::sigmoid(&(&x * 1.702)?)?,
    }
}
