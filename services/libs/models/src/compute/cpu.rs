//! The seam on Darkroom's own kernels: any CPU, in f32 or bf16.
//!
//! Everything is channels-last, so an image is tokens and the other way round without a copy, and a concatenation is two
//! images side by side until something needs them as one. Activations live in an [`arena`]; a pass allocates next to nothing.
//!
//! In bf16 the *factors* of products are bf16: weights, and what is multiplied or normalised next (queries, keys, values, hidden
//! values, what attention and normalisations make). *Sums* are f32: products accumulate in f32, and so does the residual stream
//! of a network, where rounding would add up from layer to layer. The short stream inside a transformer block is bf16.

mod arena;
mod attention;
mod conv;
mod embedding;
mod linear;
mod norm;
mod open;
mod tensor;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use darkroom_kernels::{GroupScales, Isa, Precision};

pub use attention::{KeysValues, SelfAttention};
pub use conv::Conv;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use tensor::Tensor;

use super::{Activation, Backend, ConvGeometry, Epilogue, Margins, Mask, ModelError, Piece};
use crate::weights::WeightTensor;
use arena::Arena;
use tensor::Grid;

/// The CPU, with the instructions it has, in one precision.
pub struct Cpu {
    isa: Isa,
    precision: Precision,
    arena: Arc<Arena>,
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Conv = Conv;
    type Linear = Linear;
    type Geglu = Linear;
    type GroupNorm = GroupNorm;
    type GroupMoments = GroupScales;
    type LayerNorm = LayerNorm;
    type Embedding = Embedding;
    type SelfAttention = SelfAttention;
    type KeysValues = KeysValues;

    /// On a thread of the pool: one that is outside of it would sleep and be woken again for every operation.
    fn pass<T: Send>(&self, pass: impl FnOnce() -> T + Send) -> T {
        rayon::scope(|_| pass())
    }

    fn pack_conv(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        geometry: ConvGeometry,
    ) -> Result<Conv, ModelError> {
        Ok(Conv::new(self, weight, bias, geometry))
    }

    fn pack_linear(&self, weight: &WeightTensor<'_>, bias: Option<&WeightTensor<'_>>) -> Result<Linear, ModelError> {
        Ok(Linear::new(self, weight, bias))
    }

    fn pack_geglu(&self, weight: &WeightTensor<'_>, bias: &WeightTensor<'_>) -> Result<Linear, ModelError> {
        Ok(Linear::gated(self, weight, bias))
    }

    fn pack_self_attention(
        &self,
        weights: &[WeightTensor<'_>; 3],
        biases: Option<&[WeightTensor<'_>; 3]>,
        heads: usize,
    ) -> Result<SelfAttention, ModelError> {
        Ok(SelfAttention::new(self, weights, biases, heads))
    }

    fn pack_group_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        groups: usize,
        eps: f64,
    ) -> Result<GroupNorm, ModelError> {
        Ok(GroupNorm { weight: weight.to_f32(), bias: bias.to_f32(), groups, eps: eps as f32 })
    }

    fn pack_layer_norm(
        &self,
        weight: &WeightTensor<'_>,
        bias: &WeightTensor<'_>,
        eps: f64,
    ) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm { weight: weight.to_f32(), bias: bias.to_f32(), eps: eps as f32 })
    }

    fn pack_embedding(&self, table: &WeightTensor<'_>) -> Result<Embedding, ModelError> {
        Ok(Embedding::new(self, table))
    }

    fn upload_image(&self, data: &[f32], [batch, channels, height, width]: [usize; 4]) -> Result<Tensor, ModelError> {
        Ok(self.make_f32(batch, Grid::Image(height, width), channels, |out| {
            tensor::transpose(data, out, batch, channels, height * width);
        }))
    }

    fn upload_tokens(&self, data: &[f32], [batch, count, width]: [usize; 3]) -> Result<Tensor, ModelError> {
        Ok(self.make_f32(batch, Grid::Tokens(count), width, |out| out.copy_from_slice(data)))
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>, ModelError> {
        let x = self.joined(x);
        let values = x.to_f32();
        self.arena.end_pass();
        Ok(match x.grid() {
            Grid::Tokens(_) => values,
            Grid::Image(height, width) => {
                let mut out = vec![0.0; values.len()];
                tensor::transpose(&values, &mut out, x.batch(), height * width, x.channels());
                out
            }
        })
    }

    fn image_size(&self, image: &Tensor) -> Result<(usize, usize), ModelError> {
        image.size()
    }

    fn conv2d(&self, conv: &Conv, x: &Tensor, epilogue: Epilogue<'_, Tensor>) -> Result<Tensor, ModelError> {
        conv.apply(self, x, x.size()?, Margins::default(), &epilogue)
    }

    fn upsample_conv2d(
        &self,
        conv: &Conv,
        x: &Tensor,
        size: (usize, usize),
        epilogue: Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        conv.apply(self, x, size, Margins::default(), &epilogue)
    }

    fn conv2d_band(
        &self,
        conv: &Conv,
        x: &Tensor,
        margins: Margins,
        epilogue: Epilogue<'_, Tensor>,
    ) -> Result<Tensor, ModelError> {
        conv.apply_to_band(self, x, margins, &epilogue)
    }

    fn linear(&self, linear: &Linear, x: &Tensor, epilogue: Epilogue<'_, Tensor>) -> Result<Tensor, ModelError> {
        linear.apply(self, x, &epilogue)
    }

    fn geglu(&self, geglu: &Linear, x: &Tensor, added: Option<&Tensor>) -> Result<Tensor, ModelError> {
        geglu.apply(self, x, &Epilogue { added, ..Epilogue::rounded() })
    }

    fn group_norm(&self, norm: &GroupNorm, x: &Tensor, activation: Activation) -> Result<Tensor, ModelError> {
        norm.apply(self, x, activation)
    }

    fn group_moments(&self, norm: &GroupNorm, bands: &[&Tensor]) -> Result<GroupScales, ModelError> {
        norm.moments(self, bands)
    }

    fn group_norm_rows(
        &self,
        _: &GroupNorm,
        moments: &GroupScales,
        pieces: &[&Tensor],
        activation: Activation,
    ) -> Result<Tensor, ModelError> {
        norm::apply_to_rows(self, moments, pieces, activation)
    }

    fn layer_norm(&self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor, ModelError> {
        norm.apply(self, x)
    }

    fn self_attention(
        &self,
        layer: &SelfAttention,
        x: &Tensor,
        mask: Mask,
        added: Option<&Tensor>,
    ) -> Result<Tensor, ModelError> {
        layer.apply(self, x, mask, added)
    }

    fn keys_values(
        &self,
        projections: [&Linear; 2],
        x: &Tensor,
        heads: usize,
        added: [Option<&Tensor>; 2],
    ) -> Result<KeysValues, ModelError> {
        KeysValues::new(self, projections, x, heads, added)
    }

    fn bytes(&self, keys_values: &KeysValues) -> usize {
        keys_values.bytes()
    }

    fn attention(&self, q: &Tensor, keys_values: &[&KeysValues], heads: usize) -> Result<Tensor, ModelError> {
        attention::attend(self, q, keys_values, heads)
    }

    fn concat_channels(&self, first: &Tensor, second: &Tensor) -> Result<Tensor, ModelError> {
        first.beside(second)
    }

    fn rows(&self, image: &Tensor, rows: Range<usize>) -> Result<Tensor, ModelError> {
        image.band(rows)
    }

    fn pictures(&self, x: &Tensor, pictures: Range<usize>) -> Result<Tensor, ModelError> {
        self.joined(x).pictures(pictures)
    }

    fn assemble(&self, pieces: &[Piece<'_, Tensor>], batch: usize, width: usize) -> Result<Tensor, ModelError> {
        self.assembled(pieces, batch, width)
    }

    fn stack_rows(&self, pieces: &[&Tensor]) -> Result<Tensor, ModelError> {
        self.stacked(pieces)
    }

    fn image_to_tokens(&self, image: &Tensor) -> Result<Tensor, ModelError> {
        let (height, width) = image.size()?;
        Ok(image.viewed(Grid::Tokens(height * width)))
    }

    fn tokens_to_image(&self, tokens: &Tensor, (height, width): (usize, usize)) -> Result<Tensor, ModelError> {
        Ok(tokens.viewed(Grid::Image(height, width)))
    }

    fn embed(&self, table: &Embedding, positions: &Embedding, ids: &[Vec<u32>]) -> Result<Tensor, ModelError> {
        Ok(embedding::embed(self, table, positions, ids))
    }
}
