//! The adapters of one request, packed for one network: for each layer the factors of all of them as one pair, so that a layer costs two
//! small products however many there are.

use super::file::Factors;
use super::{Lora, Network};
use crate::compute::{Backend, ModelError, Place, Site};
use crate::weights::WeightTensor;

/// Packed factors, a layer of the network each.
pub(crate) struct Set<B: Backend> {
    layers: Vec<Option<Packed<B>>>,
    bytes: usize,
}

enum Packed<B: Backend> {
    Linear(LowRank<B::Linear, B::Linear>),
    Conv(LowRank<B::Conv, B::Linear>),
}

/// `A` and `B` of `B (A x)`, what they are scaled by included.
pub(crate) struct LowRank<D, U> {
    /// From the layer's inputs to the rank.
    pub(crate) down: D,
    /// From the rank to the layer's outputs.
    pub(crate) up: U,
    pub(crate) outputs: usize,
}

impl<B: Backend> Set<B> {
    /// Packs adapters with their weights for the layers of `network` that `places` lists. `None` where they change none.
    pub(crate) fn pack(
        backend: &B,
        network: Network,
        places: &[Place],
        adapters: &[(&Lora, f32)],
    ) -> Result<Option<Self>, ModelError> {
        let mut set = Self { layers: Vec::with_capacity(places.len()), bytes: 0 };
        for place in places {
            let factors =
                adapters.iter().filter_map(|(lora, weight)| Some((lora.layers(network).get(&place.name)?, *weight)));
            let factors: Vec<(&Factors, f32)> = factors.collect();
            let packed = if factors.is_empty() { None } else { Some(set.layer(backend, place, &factors)?) };
            set.layers.push(packed);
        }
        Ok(set.layers.iter().any(Option::is_some).then_some(set))
    }

    /// Memory that the factors take, at most.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn linear(&self, site: Site) -> Option<&LowRank<B::Linear, B::Linear>> {
        match self.layers.get(site.0) {
            Some(Some(Packed::Linear(low_rank))) => Some(low_rank),
            _ => None,
        }
    }

    pub(super) fn conv(&self, site: Site) -> Option<&LowRank<B::Conv, B::Linear>> {
        match self.layers.get(site.0) {
            Some(Some(Packed::Conv(low_rank))) => Some(low_rank),
            _ => None,
        }
    }

    fn layer(&mut self, backend: &B, place: &Place, factors: &[(&Factors, f32)]) -> Result<Packed<B>, ModelError> {
        let outputs = place.shape[0];
        let rank = factors.iter().map(|(factors, _)| factors.rank).sum();
        // One under the other: [rank, in], or [rank, in, k, k].
        let down: Vec<f32> =
            factors.iter().flat_map(|(factors, _)| WeightTensor::stored(&factors.down).to_f32()).collect();
        let up = side_by_side(outputs, rank, factors);
        self.bytes += (down.len() + up.len()) * size_of::<f32>();
        let shape: Vec<usize> = [rank].iter().chain(&place.shape[1..]).copied().collect();
        let down = WeightTensor::from_f32(&down, &shape);
        let up = backend.pack_linear(&WeightTensor::from_f32(&up, &[outputs, rank]), None)?;
        Ok(match place.geometry {
            None => Packed::Linear(LowRank { down: backend.pack_linear(&down, None)?, up, outputs }),
            Some(geometry) => {
                let no_bias = WeightTensor::from_f32(&vec![0.0; rank], &[rank]);
                Packed::Conv(LowRank { down: backend.pack_conv(&down, &no_bias, geometry)?, up, outputs })
            }
        })
    }
}

/// The second factors `[outputs, rank]` of all, scaled.
fn side_by_side(outputs: usize, rank: usize, factors: &[(&Factors, f32)]) -> Vec<f32> {
    let mut all = vec![0.0; outputs * rank];
    let mut first = 0;
    for (factors, weight) in factors {
        let scale = weight * factors.scale;
        let up = WeightTensor::stored(&factors.up).to_f32();
        for (to, from) in all.chunks_exact_mut(rank).zip(up.chunks_exact(factors.rank)) {
            for (to, from) in to[first..].iter_mut().zip(from) {
                *to = scale * from;
            }
        }
        first += factors.rank;
    }
    all
}
