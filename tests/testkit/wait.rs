//! Waiting for a condition: bounded, and the error says what did not come.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, timeout};

/// The longest wait for anything. Far more than it takes, even on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Rest between two looks at a condition that cannot be subscribed to.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for `work`.
///
/// # Errors
/// What `work` answers, or `what` did not happen within [`PATIENCE`].
pub async fn within<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(PATIENCE, work).await.with_context(|| format!("{what}: not within {} s", PATIENCE.as_secs()))?
}

/// Asks `probe` until it answers with something.
///
/// # Errors
/// What `probe` answers, or `what` did not happen within [`PATIENCE`].
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await? {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
        sleep(PAUSE).await;
    }
}
