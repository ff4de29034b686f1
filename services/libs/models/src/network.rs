//! One network's weights beside what the network would ask for: what is missing, what does not fit, what nobody reads.

use crate::error::LoadError;
use crate::outline::Shapes;
use crate::weights::{Part, Stored, Weights};

/// The most names a message lists.
const NAMES_SHOWN: usize = 5;

/// A network's weights, and its tensors as its configuration asks for them.
pub(crate) struct Network {
    pub(crate) part: Part,
    pub(crate) weights: Weights,
    outline: Shapes,
}

impl Network {
    /// Weights that may lack anything.
    pub(crate) fn new(part: Part, weights: Weights, outline: Shapes) -> Self {
        Self { part, weights, outline }
    }

    /// Weights that lack nothing.
    pub(crate) fn checked(part: Part, weights: Weights, outline: Shapes) -> Result<Self, LoadError> {
        let network = Self::new(part, weights, outline);
        let fault = network.faults().next();
        fault.map_or(Ok(network), Err)
    }

    /// What keeps the weights from being the network's: tensors that are missing, all in one, and each that is of another shape or
    /// no floating-point numbers.
    pub(crate) fn faults(&self) -> impl Iterator<Item = LoadError> {
        self.missing().into_iter().chain(self.misfits())
    }

    fn missing(&self) -> Option<LoadError> {
        let missing: Vec<&str> =
            self.outline.keys().map(String::as_str).filter(|name| !self.weights.contains(name)).collect();
        if missing.is_empty() {
            return None;
        }
        let first = missing[..missing.len().min(NAMES_SHOWN)].join(", ");
        let (count, more) = (missing.len(), if missing.len() > NAMES_SHOWN { ", …" } else { "" });
        let (all, part) = (self.outline.len(), self.part);
        let what = format!("lacks {count} of the {all} tensors of its {part}: {first}{more}");
        Some(LoadError::incomplete(self.weights.file(), what))
    }

    fn misfits(&self) -> impl Iterator<Item = LoadError> {
        self.weights.stored().filter_map(|(name, stored)| {
            let (expected, file) = (self.outline.get(name)?, stored.file().to_owned());
            if stored.shape() != expected {
                let (expected, found) = (expected.clone(), stored.shape().to_vec());
                return Some(LoadError::WrongShape { tensor: name.into(), file, expected, found });
            }
            let what = || format!("tensor {name} has elements of type {}", stored.dtype());
            (!stored.dtype().is_float()).then(|| LoadError::unsupported(&file, what()))
        })
    }

    /// The tensors of the network, by today's names.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.weights.stored().filter(|(name, _)| self.outline.contains_key(*name))
    }

    /// The names of those that the network does not have.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.weights.stored().map(|(name, _)| name).filter(|name| !self.outline.contains_key(*name))
    }
}
