//! What a stage knows of its model, from the moment it is loaded.

use std::sync::{Arc, OnceLock};

use darkroom_engine::Loaded;
use darkroom_service_kit::{Readiness, status};
use tonic::Status;

/// Filled once, by the model's thread; read by every call. Clones are the same cell.
#[derive(Debug)]
pub struct Facts<T> {
    stage: &'static str,
    cell: Arc<OnceLock<T>>,
}

impl<T> Clone for Facts<T> {
    fn clone(&self) -> Self {
        Self { stage: self.stage, cell: Arc::clone(&self.cell) }
    }
}

impl<T: Send + Sync + 'static> Facts<T> {
    /// Nothing known yet of the model of `stage`.
    pub fn new(stage: &'static str) -> Self {
        Self { stage, cell: Arc::default() }
    }

    /// The facts.
    ///
    /// # Errors
    /// `UNAVAILABLE` while the model is still loading.
    pub fn get(&self) -> Result<&T, Status> {
        self.cell.get().ok_or_else(|| status::unavailable(self.stage, "the model is still loading; try again soon"))
    }

    /// Follows the loading in the background: fills the cell, then turns `readiness`. `first` sees the facts before that.
    pub fn follow(&self, loaded: Loaded<T>, readiness: Readiness, first: impl FnOnce(&T) + Send + 'static) {
        let facts = self.clone();
        tokio::spawn(async move {
            match loaded.await {
                Ok(Ok(value)) => {
                    first(facts.cell.get_or_init(|| value));
                    readiness.set_ready();
                }
                Ok(Err(error)) => readiness.fail(format!("cannot load the model: {error}")),
                Err(_) => readiness.fail("the model's thread ended before the model was loaded"),
            }
        });
    }
}
