//! Attention on the CPU, with online softmax: no matrix of scores is ever held.

use darkroom_kernels::{self as kernels, KeyValues, Matrix};

use super::{Cpu, Linear, Tensor};
use crate::compute::{Epilogue, Mask, ModelError};

/// Packed keys and values, a row of the batch each.
pub struct KeysValues(Vec<KeyValues>);

impl KeysValues {
    /// Projects tokens `[b, m, in]`.
    pub(super) fn new(cpu: &Cpu, to_k: &Linear, to_v: &Linear, x: &Tensor, heads: usize) -> Result<Self, ModelError> {
        let keys = to_k.apply(cpu, x, &Epilogue::rounded())?;
        let values = to_v.apply(cpu, x, &Epilogue::rounded())?;
        let (tokens, width) = (keys.grid().rows(), keys.channels());
        let row = |row: usize| {
            let [keys, values] =
                [&keys, &values].map(|of| Matrix::new(of.values().skip(row * tokens * width), tokens, width));
            KeyValues::new(cpu.isa, cpu.precision, keys, values, heads)
        };
        Ok(Self((0..keys.batch()).map(row).collect()))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(KeyValues::bytes).sum()
    }
}

/// See [`Backend::attention`](crate::compute::Backend::attention).
pub(super) fn attend(
    cpu: &Cpu,
    q: &Tensor,
    keys_values: &[&KeysValues],
    heads: usize,
    mask: Mask,
) -> Result<Tensor, ModelError> {
    let contexts: Vec<&KeyValues> = keys_values.iter().flat_map(|rows| &rows.0).collect();
    let queries = q.matrix()?;
    let scale = 1.0 / ((q.channels() / heads) as f32).sqrt();
    let mask = match mask {
        Mask::None => kernels::Mask::Full,
        Mask::Causal => kernels::Mask::Causal,
    };
    Ok(cpu.make(q.batch(), q.grid(), q.channels(), cpu.precision, |out| {
        kernels::attention(queries, &contexts, scale, mask, out);
    }))
}
