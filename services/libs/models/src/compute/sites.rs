//! The layers of a network whose products an adapter may change, in the order in which the network loaded them.

use std::cell::RefCell;
use std::rc::Rc;

use super::ConvGeometry;

/// A layer's place in that order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site(pub(crate) usize);

/// What is known of the layer there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As diffusers has it today: `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    pub(crate) name: String,
    /// Of its weight: `[out, in]`, or a convolution's `[out, in, k, k]`.
    pub(crate) shape: Vec<usize>,
    /// Of a convolution.
    pub(crate) geometry: Option<ConvGeometry>,
}

/// The places of a network that is being loaded.
#[derive(Clone, Default)]
pub(super) struct Sites(Rc<RefCell<Vec<Place>>>);

impl Sites {
    pub(super) fn push(&self, place: Place) -> Site {
        let mut places = self.0.borrow_mut();
        places.push(place);
        Site(places.len() - 1)
    }

    pub(super) fn all(&self) -> Vec<Place> {
        self.0.borrow().clone()
    }
}
