//! A text as one UNet has prepared it, kept by the request that it belongs to.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compute::ModelError;

/// The keys and values that a UNet made of a text: computed once a request, cheap to clone, dead weight to any other model.
#[derive(Clone)]
pub struct Context {
    owner: Owner,
    text: Arc<dyn Any + Send + Sync>,
}

/// Tells the models of a process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Context {
    pub(super) fn new<T: Any + Send + Sync>(owner: Owner, text: Arc<T>) -> Self {
        Self { owner, text }
    }

    /// What `owner` put in.
    pub(super) fn open<T: Any>(&self, owner: Owner) -> Result<&T, ModelError> {
        let own = if self.owner == owner { self.text.downcast_ref() } else { None };
        own.ok_or_else(|| ModelError::input("context", "was prepared by another model"))
    }
}
