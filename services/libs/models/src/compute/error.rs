//! Why a forward pass did not happen: the caller's input, the device, or the computation itself.

/// A model that is loaded could not compute.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The input does not fit the model; the same call can never succeed.
    #[error("{field} {problem}")]
    Input {
        /// Which argument.
        field: &'static str,
        /// What is wrong with it and what would be accepted.
        problem: String,
    },
    /// The device is absent, not compiled in, or lacks the precision asked for.
    #[error("{0}")]
    Device(String),
    /// The computation failed on the device, for example for lack of memory.
    #[error("compute failed: {0}")]
    Compute(String),
}

impl ModelError {
    /// The input called `field` does not fit, for the reason `problem`.
    pub fn input(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Input { field, problem: problem.into() }
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute(error.to_string())
    }
}

impl From<ModelError> for crate::LoadError {
    fn from(error: ModelError) -> Self {
        Self::Device(error.to_string())
    }
}
