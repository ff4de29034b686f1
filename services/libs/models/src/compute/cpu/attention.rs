//! Attention on the CPU, with online softmax: no matrix of scores is ever held.

use std::sync::Arc;

use darkroom_kernels::{self as kernels, KeyValues, Matrix, Precision};

use super::arena::Arena;
use super::{Cpu, Linear, Tensor};
use crate::compute::{Epilogue, Mask, ModelError};
use crate::weights::WeightTensor;

/// Packed keys and values, a row of the batch each, in memory of the arena.
pub struct KeysValues {
    rows: Vec<KeyValues>,
    arena: Arc<Arena>,
}

impl KeysValues {
    /// Projects tokens `[b, m, in]`.
    pub(super) fn new(
        cpu: &Cpu,
        [to_k, to_v]: [&Linear; 2],
        x: &Tensor,
        heads: usize,
        [to_keys, to_values]: [Option<&Tensor>; 2],
    ) -> Result<Self, ModelError> {
        let keys = to_k.apply(cpu, x, &Epilogue { added: to_keys, ..Epilogue::rounded() })?;
        let values = to_v.apply(cpu, x, &Epilogue { added: to_values, ..Epilogue::rounded() })?;
        let width = keys.channels();
        let [keys, values] = [&keys, &values].map(|of| Columns { of, first: 0, width });
        Ok(Self::pack(cpu, &keys, &values, heads))
    }

    fn pack(cpu: &Cpu, keys: &Columns<'_>, values: &Columns<'_>, heads: usize) -> Self {
        let (batch, tokens) = (keys.of.batch(), keys.of.grid().rows());
        let len = KeyValues::buffer_len(cpu.precision, tokens, keys.width, heads);
        let row = |row: usize| {
            let [keys, values] = [keys, values].map(|columns| columns.rows(row * tokens, tokens));
            KeyValues::new_in(cpu.arena.buffer(len, Precision::F32), cpu.isa, cpu.precision, keys, values, heads)
        };
        Self { rows: (0..batch).map(row).collect(), arena: Arc::clone(&cpu.arena) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(KeyValues::bytes).sum()
    }
}

impl Drop for KeysValues {
    fn drop(&mut self) {
        for row in self.rows.drain(..) {
            self.arena.give_back(row.into_buffer());
        }
    }
}

/// Some of a tensor's channels.
struct Columns<'a> {
    of: &'a Tensor,
    first: usize,
    width: usize,
}

impl<'a> Columns<'a> {
    fn rows(&self, first: usize, count: usize) -> Matrix<'a> {
        let stride = self.of.channels();
        Matrix::strided(self.of.values().skip(first * stride + self.first), count, self.width, stride)
    }

    fn all(&self) -> Matrix<'a> {
        self.rows(0, self.of.rows())
    }
}

/// The projections to queries, keys and values as one product.
pub struct SelfAttention {
    projections: Linear,
    width: usize,
    heads: usize,
}

impl SelfAttention {
    pub(super) fn new(
        cpu: &Cpu,
        weights: &[WeightTensor<'_>; 3],
        biases: Option<&[WeightTensor<'_>; 3]>,
        heads: usize,
    ) -> Self {
        let projections = Linear::joined(cpu, weights, biases.map(|biases| &biases[..]));
        Self { projections, width: weights[0].shape[0], heads }
    }

    /// See [`Backend::self_attention`](crate::compute::Backend::self_attention).
    pub(super) fn apply(
        &self,
        cpu: &Cpu,
        x: &Tensor,
        mask: Mask,
        added: Option<&Tensor>,
    ) -> Result<Tensor, ModelError> {
        let projected = self.projections.apply(cpu, x, &Epilogue { added, ..Epilogue::rounded() })?;
        let width = self.width;
        let [queries, keys, values] = [0, 1, 2].map(|i| Columns { of: &projected, first: i * width, width });
        let keys_values = KeysValues::pack(cpu, &keys, &values, self.heads);
        Ok(attention(cpu, &queries, &[&keys_values], self.heads, mask))
    }
}

/// See [`Backend::attention`](crate::compute::Backend::attention).
pub(super) fn attend(cpu: &Cpu, q: &Tensor, keys_values: &[&KeysValues], heads: usize) -> Result<Tensor, ModelError> {
    let queries = Columns { of: q, first: 0, width: q.channels() };
    Ok(attention(cpu, &queries, keys_values, heads, Mask::None))
}

fn attention(cpu: &Cpu, queries: &Columns<'_>, keys_values: &[&KeysValues], heads: usize, mask: Mask) -> Tensor {
    let contexts: Vec<&KeyValues> = keys_values.iter().flat_map(|rows| &rows.rows).collect();
    let scale = 1.0 / ((queries.width / heads) as f32).sqrt();
    let mask = match mask {
        Mask::None => kernels::Mask::Full,
        Mask::Causal => kernels::Mask::Causal,
    };
    cpu.make(queries.of.batch(), queries.of.grid(), queries.width, cpu.precision, |out| {
        kernels::attention(queries.all(), &contexts, scale, mask, out);
    })
}
