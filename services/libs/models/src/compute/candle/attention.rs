//! Attention on candle, a block of queries at a time, so that no more than a bounded part of the scores exists at once.

use candle_core::{D, DType, Result, Tensor};

use crate::compute::Mask;

/// Scores held at once: 64 MiB in f32. All of them would be 17 GB for the autoencoder at 2048×2048.
const MAX_SCORES: usize = 1 << 24;

/// Keys `[rows, heads, d, m]` (transposed for the product) and values `[rows, heads, m, d]`.
#[derive(Debug)]
pub struct KeysValues {
    keys: Tensor,
    values: Tensor,
}

impl KeysValues {
    /// From `[rows, m, heads · d]`.
    pub(super) fn new(keys: &Tensor, values: &Tensor, heads: usize) -> Result<Self> {
        Ok(Self {
            keys: split_heads(keys, heads)?.t()?.contiguous()?,
            values: split_heads(values, heads)?.contiguous()?,
        })
    }
}

/// See [`Backend::attention`](crate::compute::Backend::attention).
pub(super) fn attention(q: &Tensor, keys_values: &[&KeysValues], heads: usize, mask: Mask) -> Result<Tensor> {
    if let [one] = keys_values {
        return attend(q, &one.keys, &one.values, heads, mask);
    }
    let equally_long = keys_values.windows(2).all(|pair| pair[0].keys.dims()[3] == pair[1].keys.dims()[3]);
    if equally_long {
        let keys: Vec<&Tensor> = keys_values.iter().map(|entry| &entry.keys).collect();
        let values: Vec<&Tensor> = keys_values.iter().map(|entry| &entry.values).collect();
        return attend(q, &Tensor::cat(&keys, 0)?, &Tensor::cat(&values, 0)?, heads, mask);
    }
    let mut rows = Vec::with_capacity(keys_values.len());
    let mut first = 0;
    for entry in keys_values {
        let count = entry.keys.dim(0)?;
        rows.push(attend(&q.narrow(0, first, count)?, &entry.keys, &entry.values, heads, mask)?);
        first += count;
    }
    Tensor::cat(&rows, 0)
}

fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, heads: usize, mask: Mask) -> Result<Tensor> {
    let (rows, queries, width) = q.dims3()?;
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let q = (split_heads(q, heads)? * scale)?.contiguous()?;
    let memory = keys.dim(3)?;
    let block = (MAX_SCORES / (rows * heads * memory).max(1)).clamp(1, queries.max(1));
    let mut blocks = Vec::with_capacity(queries.div_ceil(block));
    for first in (0..queries).step_by(block) {
        let count = block.min(queries - first);
        let mut scores = q.narrow(2, first, count)?.contiguous()?.matmul(keys)?.to_dtype(DType::F32)?;
        if mask == Mask::Causal {
            scores = scores.broadcast_add(&causal_mask(first, count, memory, &scores)?)?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(values.dtype())?;
        blocks.push(weights.matmul(values)?);
    }
    let attended = if blocks.len() == 1 { blocks.swap_remove(0) } else { Tensor::cat(&blocks, 2)? };
    attended.transpose(1, 2)?.reshape((rows, queries, width))
}

/// `[rows, n, heads · d]` → `[rows, heads, n, d]`, a view where it can be.
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, count, width) = x.dims3()?;
    x.reshape((rows, count, heads, width / heads))?.transpose(1, D::Minus2)
}

/// Zero where a query may look, −∞ at the keys after it; query `i` of the block is token `first + i`.
fn causal_mask(first: usize, count: usize, memory: usize, like: &Tensor) -> Result<Tensor> {
    let hidden = |query: usize, key: usize| if key > first + query { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..count).flat_map(|query| (0..memory).map(move |key| hidden(query, key))).collect();
    Tensor::from_vec(mask, (count, memory), like.device())
}
