//! The adapters that requests of one network use now: packed once for all requests that name the same with the same weights.

use std::sync::{Arc, Weak};

use super::texts::{Held, TextMemory};
use crate::compute::{Backend, ModelError, Place};
use crate::lora::{LoraUse, Loras, Network, Set};

/// Those of a network that were loaded, and the sets of them that are in use.
pub(super) struct Adapters<B: Backend> {
    network: Network,
    loras: Loras,
    memory: TextMemory,
    known: Vec<(String, Weak<Packed<B>>)>,
    /// Kept beyond its request: the next one often has the same.
    last: Option<Arc<Packed<B>>>,
}

/// A packed set, which may be of no layers of this network.
pub(super) struct Packed<B: Backend> {
    set: Option<Set<B>>,
    _held: Held,
}

impl<B: Backend> Packed<B> {
    pub(super) fn set(&self) -> Option<&Set<B>> {
        self.set.as_ref()
    }
}

/// What tells sets apart: names and the bits of weights, in order. Empty for none.
pub(super) fn key(uses: &[LoraUse]) -> String {
    uses.iter().map(|LoraUse { name, weight }| format!("{name:?} {:x}\n", weight.to_bits())).collect()
}

impl<B: Backend> Adapters<B> {
    pub(super) fn new(network: Network, loras: Loras, memory: TextMemory) -> Self {
        Self { network, loras, memory, known: Vec::new(), last: None }
    }

    /// Memory that these take while they are used, at most.
    pub(super) fn bytes(&self, uses: &[LoraUse]) -> usize {
        self.loras.bytes(self.network, uses)
    }

    /// The set of these, packed for a network with these places. `None` for none.
    pub(super) fn get(
        &mut self,
        backend: &B,
        places: &[Place],
        uses: &[LoraUse],
    ) -> Result<Option<Arc<Packed<B>>>, ModelError> {
        let adapters = self.loras.used(uses)?;
        if adapters.is_empty() {
            return Ok(None);
        }
        let key = key(uses);
        self.known.retain(|(_, set)| set.strong_count() > 0);
        let known = self.known.iter().find(|(known, _)| *known == key).and_then(|(_, set)| set.upgrade());
        let packed = match known {
            Some(packed) => packed,
            None => {
                // Before the next is packed, so that no more are there than are used.
                self.last = None;
                let set = Set::pack(backend, self.network, places, &adapters)?;
                let bytes = set.as_ref().map_or(0, Set::bytes);
                let packed = Arc::new(Packed { set, _held: self.memory.hold(bytes) });
                self.known.push((key, Arc::downgrade(&packed)));
                packed
            }
        };
        self.last = Some(Arc::clone(&packed));
        Ok(Some(packed))
    }
}
