//! The async runtime that a command runs on.

use crate::failure::Failure;

/// Runs a command's work to its end.
pub(crate) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // An evaluation that nobody waits for any more must not hold up the exit.
    runtime.shutdown_background();
    outcome
}
