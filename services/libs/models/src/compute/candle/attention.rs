//! Attention on candle, a block of queries at a time, so that no more than a bounded part of the scores exists at once.

use candle_core::{D, DType, Result, Tensor};

use super::Linear;
use crate::compute::Mask;

/// Scores held at once: 64 MiB in f32. All of them would be 17 GB for the autoencoder at 2048×2048.
const MAX_SCORES: usize = 1 << 24;

/// The projections of attention among tokens.
#[derive(Debug)]
pub struct SelfAttention {
    pub(super) to_q: Linear,
    pub(super) to_k: Linear,
    pub(super) to_v: Linear,
    pub(super) heads: usize,
}

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

    pub(super) fn bytes(&self) -> usize {
        [&self.keys, &self.values].iter().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }
}

/// See [`Backend::attention`](crate::compute::Backend::attention).
pub(super) fn attention(q: &Tensor, keys_values: &[&KeysValues], heads: usize, mask: Mask) -> Result<Tensor> {
    if let [one] = keys_values {
        return attend(q, &one.keys, &one.values, heads, mask, MAX_SCORES);
    }
    let equally_long = keys_values.windows(2).all(|pair| pair[0].keys.dims()[3] == pair[1].keys.dims()[3]);
    if equally_long {
        let keys: Vec<&Tensor> = keys_values.iter().map(|entry| &entry.keys).collect();
        let values: Vec<&Tensor> = keys_values.iter().map(|entry| &entry.values).collect();
        return attend(q, &Tensor::cat(&keys, 0)?, &Tensor::cat(&values, 0)?, heads, mask, MAX_SCORES);
    }
    let mut rows = Vec::with_capacity(keys_values.len());
    let mut first = 0;
    for entry in keys_values {
        let count = entry.keys.dim(0)?;
        let q = q.narrow(0, first, count)?;
        rows.push(attend(&q, &entry.keys, &entry.values, heads, mask, MAX_SCORES)?);
        first += count;
    }
    Tensor::cat(&rows, 0)
}

fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, heads: usize, mask: Mask, max_scores: usize) -> Result<Tensor> {
    let (rows, queries, width) = q.dims3()?;
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let q = (split_heads(q, heads)? * scale)?.contiguous()?;
    let memory = keys.dim(3)?;
    let block = (max_scores / (rows * heads * memory).max(1)).clamp(1, queries.max(1));
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const HEADS: usize = 2;
    const WIDTH: usize = 6;

    fn tokens(rows: usize, count: usize, seed: usize) -> Result<Tensor> {
        let values = (0..rows * count * WIDTH).map(|i| ((i * 7 + seed * 13) % 23) as f32 / 7.0 - 1.5);
        Tensor::from_vec(values.collect::<Vec<_>>(), (rows, count, WIDTH), &Device::Cpu)
    }

    /// The definition, in f64.
    fn expected(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Vec<f32>> {
        let (q, k, v) = (q.to_vec3::<f32>()?, k.to_vec3::<f32>()?, v.to_vec3::<f32>()?);
        let size = WIDTH / HEADS;
        let mut out = Vec::new();
        for (row, queries) in q.iter().enumerate() {
            for (position, query) in queries.iter().enumerate() {
                let seen = if mask == Mask::Causal { position + 1 } else { k[row].len() };
                for feature in 0..WIDTH {
                    let head = feature / size * size..(feature / size + 1) * size;
                    let score = |key: &Vec<f32>| {
                        let dot: f64 = head.clone().map(|i| f64::from(query[i]) * f64::from(key[i])).sum();
                        (dot / (size as f64).sqrt()).exp()
                    };
                    let scores: Vec<f64> = k[row][..seen].iter().map(score).collect();
                    let mixed: f64 = scores.iter().zip(&v[row]).map(|(s, value)| s * f64::from(value[feature])).sum();
                    out.push((mixed / scores.iter().sum::<f64>()) as f32);
                }
            }
        }
        Ok(out)
    }

    fn assert_close(found: &Tensor, expected: &[f32]) -> Result<()> {
        let found = found.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        }
        Ok(())
    }

    #[test]
    fn blocks_of_queries_make_no_difference() -> Result<()> {
        let (q, k, v) = (tokens(2, 7, 1)?, tokens(2, 7, 2)?, tokens(2, 7, 3)?);
        let keys_values = KeysValues::new(&k, &v, HEADS)?;
        for mask in [Mask::None, Mask::Causal] {
            // All at once, three queries at a time with a remainder of one, and one at a time.
            for max_scores in [MAX_SCORES, 3 * 2 * HEADS * 7, 1] {
                let found = attend(&q, &keys_values.keys, &keys_values.values, HEADS, mask, max_scores)?;
                assert_close(&found, &expected(&q, &k, &v, mask)?)?;
            }
        }
        Ok(())
    }

    #[test]
    fn rows_attend_to_their_own_text_whatever_its_length() -> Result<()> {
        let q = tokens(3, 5, 4)?;
        for lengths in [[4, 4, 4], [4, 9, 1]] {
            let (mut texts, mut wanted) = (Vec::new(), Vec::new());
            for (row, length) in lengths.into_iter().enumerate() {
                let (k, v) = (tokens(1, length, row)?, tokens(1, length, row + 5)?);
                wanted.extend(expected(&q.narrow(0, row, 1)?, &k, &v, Mask::None)?);
                texts.push(KeysValues::new(&k, &v, HEADS)?);
            }
            let found = attention(&q, &texts.iter().collect::<Vec<_>>(), HEADS, Mask::None)?;
            assert_close(&found, &wanted)?;
        }
        Ok(())
    }
}
