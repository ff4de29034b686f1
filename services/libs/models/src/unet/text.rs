//! The text's way into the network: the keys and values of every cross-attention, computed once a request.
//!
//! Their projections belong to the transformer blocks by name and to the whole UNet by use: they run when a request comes,
//! not when a step does.

use crate::LoadError;
use crate::compute::{Backend, ModelError, Scope};
use crate::lora::{Adapted, Updates};

/// What the cross-attentions attend to, for one text.
pub struct TextContext<B: Backend> {
    layers: Vec<B::KeysValues>,
}

impl<B: Backend> TextContext<B> {
    /// Memory that the keys and values take.
    pub(crate) fn bytes(&self, backend: &B) -> usize {
        self.layers.iter().map(|layer| backend.bytes(layer)).sum()
    }

    /// The keys and values for one cross-attention; `None` only for the context of another network.
    pub(super) fn layer(&self, slot: Slot) -> Option<&B::KeysValues> {
        self.layers.get(slot.0)
    }
}

/// Which cross-attention of the network this is.
#[derive(Clone, Copy)]
pub(super) struct Slot(usize);

/// `to_k` and `to_v` of every cross-attention, in the order in which the blocks were loaded.
pub(super) struct TextProjections<B: Backend> {
    width: usize,
    layers: Vec<Projection<B>>,
}

struct Projection<B: Backend> {
    to_k: Adapted<B::Linear>,
    to_v: Adapted<B::Linear>,
    heads: usize,
}

impl<B: Backend> TextProjections<B> {
    /// None yet, for texts of `width` features a token.
    pub(super) fn new(width: usize) -> Self {
        Self { width, layers: Vec::new() }
    }

    /// Loads the projections of the cross-attention at `scope`, which has `channels` in `heads` heads.
    pub(super) fn load(&mut self, scope: &Scope<'_, B>, channels: usize, heads: usize) -> Result<Slot, LoadError> {
        self.layers.push(Projection {
            to_k: Adapted::linear_without_bias(scope, "to_k", (self.width, channels))?,
            to_v: Adapted::linear_without_bias(scope, "to_v", (self.width, channels))?,
            heads,
        });
        Ok(Slot(self.layers.len() - 1))
    }

    pub(super) fn project(
        &self,
        backend: &B,
        prompt_embeds: &B::Tensor,
        updates: &Updates<'_, B>,
    ) -> Result<TextContext<B>, ModelError> {
        let project = |Projection { to_k, to_v, heads }: &Projection<B>| {
            updates.keys_values(backend, [to_k, to_v], prompt_embeds, *heads)
        };
        Ok(TextContext { layers: self.layers.iter().map(project).collect::<Result<_, _>>()? })
    }
}
