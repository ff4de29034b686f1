//! Tables of vectors: CLIP's tokens and positions.

use darkroom_kernels::{Buffer, Matrix, MatrixMut, convert};

use super::tensor::Grid;
use super::{Cpu, Tensor};
use crate::weights::WeightTensor;

/// `[entries, width]`, in the precision of products.
pub struct Embedding {
    table: Buffer,
    width: usize,
}

impl Embedding {
    pub(super) fn new(cpu: &Cpu, table: &WeightTensor<'_>) -> Self {
        let (entries, width) = (table.shape[0], table.shape[1]);
        let values = table.as_f32();
        let mut buffer = Buffer::zeroed(values.len(), cpu.precision);
        let mut to = MatrixMut::new(buffer.values_mut(), entries, width);
        convert(cpu.isa, Matrix::new(&values[..], entries, width), &mut to);
        Self { table: buffer, width }
    }
}

/// See [`Backend::embed`](crate::compute::Backend::embed).
pub(super) fn embed(cpu: &Cpu, table: &Embedding, positions: &Embedding, ids: &[Vec<u32>]) -> Tensor {
    let (count, width) = (ids.first().map_or(0, Vec::len), table.width);
    let (tokens, places) = (table.table.values(), positions.table.values());
    cpu.make_f32(ids.len(), Grid::Tokens(count), width, |out| {
        for (out, (index, id)) in out.chunks_exact_mut(width).zip(ids.iter().flat_map(|row| row.iter().enumerate())) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = tokens.get(*id as usize * width + i) + places.get(index * width + i);
            }
        }
    })
}
