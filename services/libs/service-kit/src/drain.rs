//! A running service and how it ends: not ready, nothing new, finish what runs, stop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Readiness;

/// Time that connections get to fall apart after they were cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The three moments of an end, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// The gRPC port closes; calls on open connections finish.
    pub(crate) accepting: CancellationToken,
    /// The HTTP port closes: it answers probes and scrapes until the last call is done.
    pub(crate) http: CancellationToken,
    /// Whatever is left is cut off.
    pub(crate) cut: CancellationToken,
}

impl Stop {
    fn now(&self) {
        self.accepting.cancel();
        self.http.cancel();
        self.cut.cancel();
    }
}

/// A running service. Dropping it stops the service at once and cuts its calls; [`ServiceHandle::drain`] lets them finish.
#[derive(Debug)]
pub struct ServiceHandle {
    /// Where gRPC listens, with the port that was taken.
    pub grpc_addr: SocketAddr,
    /// Where HTTP listens, with the port that was taken.
    pub http_addr: SocketAddr,
    readiness: Readiness,
    stop: Stop,
    grace: Duration,
    grpc: JoinHandle<anyhow::Result<()>>,
    http: JoinHandle<anyhow::Result<()>>,
}

impl ServiceHandle {
    pub(crate) fn new(
        grpc_addr: SocketAddr,
        http_addr: SocketAddr,
        readiness: Readiness,
        stop: Stop,
        grace: Duration,
        grpc: JoinHandle<anyhow::Result<()>>,
        http: JoinHandle<anyhow::Result<()>>,
    ) -> Self {
        Self { grpc_addr, http_addr, readiness, stop, grace, grpc, http }
    }

    /// Waits until the service takes calls.
    ///
    /// # Errors
    /// Why it never will, such as the loader's message.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.readiness.ready().await
    }

    /// The service's latch.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Turns readiness off, closes the port, lets running calls finish within the grace period, and stops.
    ///
    /// # Errors
    /// When a port's task failed, or calls still ran after the grace period and were cut off.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.readiness.drain();
        self.stop.accepting.cancel();
        let finished = timeout(self.grace, &mut self.grpc).await;
        self.stop.now();
        match &finished {
            Ok(_) => {}
            Err(_) => _ = timeout(CUT_GRACE, &mut self.grpc).await,
        }
        // A scrape that hangs holds nobody up.
        _ = timeout(CUT_GRACE, &mut self.http).await;
        let seconds = self.grace.as_secs();
        finished
            .with_context(|| format!("calls still ran after drain_grace_seconds = {seconds} and were cut off"))??
    }
}

impl Drop for ServiceHandle {
    fn drop(&mut self) {
        self.readiness.drain();
        self.stop.now();
    }
}
